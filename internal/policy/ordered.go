package policy

import (
	"cmp"
	"fmt"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// orderedAdapter makes values of CEL of claims, whose maps are walked in the order
// of their keys. Go walks maps in any order, so an expression that walks claims
// would have a different cost and result each time.
type orderedAdapter struct{}

// NativeToValue implements types.Adapter.
func (a orderedAdapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case map[string]any:
		return orderedMap{types.NewStringInterfaceMap(a, v)}
	case []any:
		return types.NewDynamicList(a, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

type orderedMap struct{ traits.Mapper }

// Iterator implements traits.Iterable.
func (m orderedMap) Iterator() traits.Iterator {
	var keys []ref.Val
	for it := m.Mapper.Iterator(); it.HasNext() == types.True; {
		keys = append(keys, it.Next())
	}
	text := func(v ref.Val) string { return fmt.Sprint(v.Value()) }
	slices.SortFunc(keys, func(a, b ref.Val) int { return cmp.Compare(text(a), text(b)) })
	return types.NewRefValList(orderedAdapter{}, keys).Iterator()
}
