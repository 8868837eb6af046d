// Package faulttest holds the failure tests: the real worker, a real JetStream
// server and the simulated cloud, with everything between them killed, cut off,
// repeated, stalled and forged. After each test one checker looks at all that
// was left behind and holds it to six invariants:
//
//  1. every request ends in exactly one of: a result, a dead letter;
//  2. there is at most one effective action for an endpoint and decision;
//  3. nothing is accepted without a matching allow on verified facts;
//  4. nothing is rejected because of an error;
//  5. there is exactly one result for a decision;
//  6. every action has its decision record, written before it.
//
// How much is tried is set by FAULT_COUNTS: "short", "ci" and "full" are the columns of
// docs/reliability.md. Without it the short form runs, less what takes long. Each run makes a table
// of what was tried and what was found. It is printed with -v, and written to the file
// that FAULT_TABLE names.
package faulttest
