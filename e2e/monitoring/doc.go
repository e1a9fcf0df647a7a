// Package monitoring has only tests. A real Prometheus evaluates what deploy/ has for it.
package monitoring
