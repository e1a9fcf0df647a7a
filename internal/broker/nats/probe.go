package nats

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Probe connects once, and returns the server's version if the gateway can use that server. It
// changes nothing there.
func Probe(ctx context.Context, cfg Config) (version string, err error) {
	conn, err := nats.Connect(cfg.URL, append(cfg.options(), nats.NoReconnect())...)
	if err != nil {
		return "", withoutURL(err)
	}
	defer conn.Close()
	version = conn.ConnectedServerVersion()
	if err := checkVersion(version); err != nil {
		return version, err
	}
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.AccountInfo(ctx)
	}
	if errors.Is(err, nats.ErrNoResponders) {
		err = jetstream.ErrJetStreamNotEnabled
	}
	if err != nil {
		return version, fmt.Errorf("NATS server %s: JetStream: %w", version, err)
	}
	return version, nil
}

// withoutURL leaves the URL out of an error, which may have a password.
func withoutURL(err error) error {
	if wrong := (*url.Error)(nil); errors.As(err, &wrong) {
		return wrong.Err
	}
	return err
}
