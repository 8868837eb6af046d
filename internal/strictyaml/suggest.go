package strictyaml

import "strings"

// OneOf joins words with "or".
func OneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// Suggest asks whether the nearest of words was meant, or else names all of them.
func Suggest(word string, words []string) string {
	if hint := DidYouMean(word, words); hint != "" || len(words) == 0 {
		return hint
	}
	return "write " + OneOf(words)
}

// DidYouMean asks whether the nearest of words was meant; empty if none is near.
func DidYouMean(word string, words []string) string {
	if near := Nearest(word, words); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

// maxWord is the length of the longest words, in bytes, that are compared.
const maxWord = 64

// Nearest returns the one of words that word is most likely a slip of; empty if none
// is near: more than a third of it wrong.
func Nearest(word string, words []string) string {
	best, least := "", len(word)/3+1
	for _, w := range words {
		if len(word) > maxWord || len(w) > maxWord {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(w)); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete, change or swap with a
// neighbor that turns a into b.
func distance(a, b string) int {
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
