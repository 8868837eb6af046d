// Package oidctest signs in to the console at a real provider of OpenID Connect. It is
// a module of its own, because the worker needs no provider.
package oidctest
