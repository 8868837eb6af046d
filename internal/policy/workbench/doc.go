// Package workbench holds the tools for authors of policies: they test, explain,
// compare and replay policies, and write what they find as text, JSON, JUnit or
// SARIF. Every decision in them is made by package policy.
package workbench
