// Package docs runs or checks every command, program and answer that README.md and docs/*.md show.
package docs
