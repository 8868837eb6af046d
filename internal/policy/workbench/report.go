package workbench

import (
	"io"
	"path/filepath"
	"slices"

	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// sarif is the part of SARIF 2.1.0 that findings need.
//
// Source: OASIS "Static Analysis Results Interchange Format (SARIF) Version
// 2.1.0", sections 3.13, 3.14, 3.27 and 3.28.
type sarif struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool    sarifTool     `json:"tool"`
	Results []sarifResult `json:"results"`
}

type sarifTool struct {
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct {
	Name  string      `json:"name"`
	Rules []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID string `json:"id"`
}

type sarifResult struct {
	RuleID    string          `json:"ruleId"`
	Level     string          `json:"level"`
	Message   sarifMessage    `json:"message"`
	Locations []sarifLocation `json:"locations"`
}

type sarifMessage struct {
	Text string `json:"text"`
}

type sarifLocation struct {
	Physical sarifPhysical `json:"physicalLocation"`
}

type sarifPhysical struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   *sarifRegion  `json:"region,omitempty"`
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifRegion struct {
	StartLine   int `json:"startLine"`
	StartColumn int `json:"startColumn"`
}

// WriteSARIF writes findings as SARIF 2.1.0, which code hosts show at the lines
// of a change.
func WriteSARIF(w io.Writer, findings []strictyaml.Finding) error {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: "vpcep-approver", Rules: []sarifRule{}}}, Results: []sarifResult{}}
	var codes []string
	for _, f := range findings {
		codes = append(codes, f.Code)
		text := f.Text
		if f.Path != "" {
			text = f.Path + ": " + text
		}
		if f.Hint != "" {
			text += "; " + f.Hint
		}
		at := sarifPhysical{Artifact: sarifArtifact{filepath.ToSlash(f.File)}}
		if f.Line > 0 {
			at.Region = &sarifRegion{f.Line, max(f.Column, 1)}
		}
		run.Results = append(run.Results, sarifResult{f.Code, string(f.Severity), sarifMessage{text}, []sarifLocation{{at}}})
	}
	slices.Sort(codes)
	for _, c := range slices.Compact(codes) {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{c})
	}
	return writeJSON(w, sarif{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}})
}
