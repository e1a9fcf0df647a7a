// Package deploy tests the Helm chart and the compose files under deploy with the code of those who read them.
package deploy
