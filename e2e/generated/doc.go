// Package generated has only tests. They generate clients from the OpenAPI document with programs by others, without
// options, and take each client through the API of a real gateway.
package generated
