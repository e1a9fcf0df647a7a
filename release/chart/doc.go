// Package chart tests deploy/helm/ssegateway with Helm's own code.
package chart
