package check

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"ssegateway/internal/config"
	"ssegateway/internal/operator"
)

// listeners looks whether the addresses can be listened at, or a gateway does so already.
func (r *report) listeners(ctx context.Context, cfg config.Config) {
	port := ":" + strconv.Itoa(cfg.Port)
	r.listener(ctx, "PORT", port, operator.Public(cfg))
	switch addr := cfg.InternalAddr; {
	case addr.Network == "unix":
		r.socket(ctx, addr.Address, operator.New(cfg))
	case strings.HasSuffix(addr.Address, port):
		r.fail("INTERNAL_ADDR: it has the port of PORT, which listens at all addresses: choose another")
	case addr.Network == "tcp":
		r.listener(ctx, "INTERNAL_ADDR", addr.Address, operator.New(cfg))
	}
}

func (r *report) listener(ctx context.Context, setting, address string, client *operator.Client) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		_ = l.Close()
		r.ok("%s: %s is free", setting, address)
	case isGateway(ctx, client):
		r.ok("%s: a gateway runs at %s", setting, address)
	default:
		r.fail("%s: %v, and no gateway answers there: stop what has it, or choose another", setting, err)
	}
}

// isGateway reports whether a gateway answers.
func isGateway(ctx context.Context, client *operator.Client) bool {
	answer, err := client.Health(ctx, false)
	return err == nil && answer == `{"status":"ok"}`
}

// socket looks at the Unix socket of INTERNAL_ADDR. A process that was killed leaves its socket, and
// the next one removes it.
func (r *report) socket(ctx context.Context, path string, client *operator.Client) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		r.fail("INTERNAL_ADDR: %s exists and is no socket: name another path", path)
		return
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		if isGateway(ctx, client) {
			r.ok("INTERNAL_ADDR: a gateway runs at unix:%s", path)
		} else {
			r.fail("INTERNAL_ADDR: another process listens at unix:%s: stop it, or name another path", path)
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		r.directory("INTERNAL_ADDR", filepath.Dir(path))
	default:
		r.fail("INTERNAL_ADDR: %v", err)
	}
}

// directory looks whether files can be made in a directory, or, where it is missing, whether it can
// be made in the nearest one above it. It makes a file there, and removes it.
func (r *report) directory(setting, path string) {
	at := path
	for {
		file, err := os.CreateTemp(at, ".ssegateway-check-*")
		if err == nil {
			_, _ = file.Close(), os.Remove(file.Name())
			break
		}
		if above := filepath.Dir(at); errors.Is(err, fs.ErrNotExist) && above != at && setting != "INTERNAL_ADDR" {
			at = above
			continue
		}
		r.fail("%s: the directory %s is not writable: %v", setting, at, err)
		return
	}
	if at == path {
		r.ok("%s: the directory %s is writable", setting, path)
	} else {
		r.ok("%s: the directory %s will be made", setting, path)
	}
}
