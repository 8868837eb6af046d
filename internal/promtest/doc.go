// Package promtest proves the dashboards, the alerts and the recording rules of
// deploy/ with the real Prometheus: two workers under the load of the demo are
// scraped, and every query is run through the HTTP API. There is nothing in it but
// tests. They run with APPROVER_TEST_PROMETHEUS=require and need prometheus in the
// PATH.
package promtest
