package histories

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// configuration has a value for each dimension.
type configuration map[string]string

// dimensions are what must make no difference. The first value of each is that of the base.
var dimensions = []struct {
	name   string
	values []string
}{
	{"kind", []string{"detached", "parked", "tls-http1", "tls-http2", "h2c"}},
	{"engine", []string{"memory", "disk", "nats", "three nodes"}},
	{"read", []string{"all", "own"}}, // from NATS
	{"overflow", []string{"unset", "disconnect", "drop_oldest", "latest"}},
	{"requests", []string{"kept", "chunked", "fresh"}}, // kept: the short cut, where the listener has it
	{"form", []string{"single", "batch", "event stream", "ndjson"}},
	{"internal", []string{"public", "tcp", "unix", "tls-http1", "tls-http2"}},
	{"token", []string{"off", "on"}},
	{"signed", []string{"off", "on"}},
	{"ends", []string{"1", "50"}}, // in one callback
	{"heartbeat", []string{"3600", "1"}},
	{"limits", []string{"off", "on"}},
	{"event form", []string{"unset", "plain"}},
}

func base() configuration {
	c := configuration{}
	for _, d := range dimensions {
		c[d.name] = d.values[0]
	}
	return c
}

func (c configuration) String() string {
	var b strings.Builder
	for _, d := range dimensions {
		fmt.Fprintf(&b, "%s=%s; ", d.name, c[d.name])
	}
	return b.String()
}

// drawConfigurations draws so many configurations, which together have each value of a
// dimension with no more values than that.
func drawConfigurations(t *rapid.T, n int) []configuration {
	all := make([]configuration, n)
	for i := range all {
		all[i] = configuration{}
	}
	for _, d := range dimensions {
		var values []string
		for len(values) < n {
			values = append(values, rapid.Permutation(d.values).Draw(t, d.name)...)
		}
		for i := range all {
			all[i][d.name] = values[i]
		}
	}
	return all
}

const (
	signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	internalToken = "token-of-the-histories"
)

// settings are those that do not depend on what the installation has chosen, such as ports.
func (c configuration) settings() []string {
	s := []string{
		"HEARTBEAT_INTERVAL_SECONDS=" + c["heartbeat"], "CALLBACK_BATCH=" + c["ends"],
		"QUEUE_BYTES=16777216",    // more than a script sends at once: else a policy drops what a busy machine has not written yet
		"MAX_BODY_BYTES=16777216", // more than a script sends at once: else a batch of large events is refused, and the same events one by one are not
	}
	if c["token"] == "on" {
		s = append(s, "INTERNAL_TOKEN="+internalToken)
	}
	if c["signed"] == "on" {
		s = append(s, "CALLBACK_SIGNING_SECRET="+signingSecret)
	}
	if c["limits"] == "on" {
		s = append(s, "MAX_CONNECTIONS_PER_IP=1000", "CONNECTS_PER_MINUTE_PER_IP=100000")
	}
	if c["event form"] == "plain" {
		s = append(s, "EVENT_FORM=plain")
	}
	return s
}
