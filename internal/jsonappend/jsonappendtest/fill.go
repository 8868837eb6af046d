// Package jsonappendtest makes values for tests of what is written with jsonappend.
package jsonappendtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"time"
)

func texts() []string {
	return []string{
		"plain", "705290f3-0d00-41f2-aedc-71f09844e879", `a "quote"`, `back\slash`, "tab\t", "\x00", "<&>", "接受", "\u2028", "\ufffd", "\x7f", "😀",
	}
}

// refused are texts that JSON does not have.
func refused() []string { return []string{"\xff", "a\xc3"} }

func floats() []float64 {
	return []float64{0, 0.25, 1, -3.5, 1e-6, 1e-7, 1e20, 1e21, 2.5e-9, 3e-10, -1e300, 5e-324, 123456789.125, math.Copysign(0, -1)}
}

// noNumbers are floats that JSON does not have.
func noNumbers() []float64 { return []float64{math.NaN(), math.Inf(1), math.Inf(-1)} }

func times() []time.Time {
	return []time.Time{
		time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC), time.Date(2026, 11, 28, 1, 2, 3, 120_000_000, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 999_999_999, time.FixedZone("", 8*3600)),
	}
}

// noTimes are times that RFC 3339 does not have.
func noTimes() []time.Time {
	return []time.Time{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3601))}
}

// Fill sets what v points to at random. About a third of all fields stays zero. With odd, there
// are also values that cannot be written as JSON.
func Fill(r *rand.Rand, v any, odd bool) {
	(&filler{r, odd}).fill(reflect.ValueOf(v).Elem(), 0)
}

type filler struct {
	*rand.Rand
	odd bool
}

// pick returns one of common, and seldom one of rare.
func pick[T any](f *filler, common, rare []T) T {
	if f.odd && f.IntN(40) == 0 {
		return rare[f.IntN(len(rare))]
	}
	return common[f.IntN(len(common))]
}

func (f *filler) fill(v reflect.Value, depth int) {
	if f.IntN(3) == 0 && depth > 0 {
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(pick(f, times(), noTimes())))
		return
	case v.Type() == reflect.TypeFor[any]():
		v.Set(reflect.ValueOf(f.claim(depth)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(pick(f, texts(), refused()))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(f.Int64() - f.Int64())
	case reflect.Uint64:
		v.SetUint(f.Uint64())
	case reflect.Float64:
		v.SetFloat(pick(f, floats(), noNumbers()))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), depth+1)
	case reflect.Struct:
		for _, field := range v.Fields() {
			f.fill(field, depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), f.IntN(3), 3))
		for i := range v.Len() {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.IntN(4) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.SetString(pick(f, texts(), refused()))
			f.fill(value, depth+1)
			v.SetMapIndex(key, value)
		}
	default:
		panic(fmt.Sprintf("no values for %s", v.Type()))
	}
}

// claim is a value of the claims of a request.
func (f *filler) claim(depth int) any {
	kinds := 8
	if depth > 6 {
		kinds = 6
	}
	switch f.IntN(kinds) {
	case 0:
		return pick(f, texts(), refused())
	case 1:
		return f.IntN(2) == 0
	case 2:
		return f.Int64() - f.Int64()
	case 3:
		return f.Uint64()
	case 4:
		return pick(f, floats(), noNumbers())
	case 5:
		return []any{}
	case 6:
		return []any{f.claim(depth + 1), f.claim(depth + 1)}
	default:
		return map[string]any{pick(f, texts(), refused()): f.claim(depth + 1)}
	}
}
