package strictyaml

import (
	"strings"
	"testing"
)

func TestExcerptIsCut(t *testing.T) {
	t.Parallel()
	line := []byte(strings.Repeat("é", 300) + "X" + strings.Repeat("y", 300))
	lines := strings.Split(Excerpt(line, Position{7, 301}), "\n")
	caret := strings.IndexByte(lines[1], '^')
	if at := []rune(lines[0])[caret]; at != 'X' || len([]rune(lines[0])) > maxExcerpt+20 {
		t.Errorf("the caret is under %q in %q", at, lines[0])
	}
}
