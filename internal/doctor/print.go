package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// Printer returns a Doctor.Report that prints a line for each check: an object if
// format is json, text for people if not.
func Printer(w io.Writer, format string, p cli.Palette) func(Check) error {
	return func(r Check) error {
		if format == "json" {
			return json.NewEncoder(w).Encode(r)
		}
		status := map[string]func(string) string{
			OK: p.Green, Warning: p.Yellow, Failed: p.Red, Skipped: p.Dim,
		}[r.Status](fmt.Sprintf("%-7s", r.Status))
		// An error of several lines, such as a list of wrong settings, stays below its check.
		found := strings.Split(r.Found, "\n")
		for i, line := range found {
			found[i] = cli.Printable(line)
		}
		line := fmt.Sprintf("%s  %-28s %s", status, r.Name, strings.Join(found, "\n"+strings.Repeat(" ", 38)))
		if r.Hint != "" {
			line += " — " + cli.Printable(r.Hint)
		}
		_, err := fmt.Fprintln(w, line)
		return err
	}
}
