package config

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// errBackendURL is returned for a callback URL that no valid Config has.
var errBackendURL = errors.New("not the URL of a backend")

const unixScheme = "unix"

// Backend returns where a callback URL of a valid Config leads: an http or https URL, and the path of the Unix
// socket to reach it by; empty: the URL's host.
//
// Of unix:/run/app.sock:/callback?key=1 the socket is /run/app.sock and the URL http://localhost/callback?key=1.
func Backend(callbackURL string) (u *url.URL, socket string, err error) {
	u, err = url.Parse(callbackURL)
	if err != nil {
		return nil, "", errBackendURL // url's own error quotes it
	}
	if u.Scheme != unixScheme {
		return u, "", nil
	}
	escaped, target, _ := strings.Cut(u.EscapedPath(), ":")
	if target == "" {
		target = "/"
	}
	socket, err = url.PathUnescape(escaped)
	if err != nil || u.Host != "" || u.User != nil || !strings.HasPrefix(socket, "/") || strings.HasSuffix(socket, "/") ||
		strings.ContainsRune(socket, 0) || !strings.HasPrefix(target, "/") {
		return nil, "", errBackendURL
	}
	at := &url.URL{Scheme: "http", Host: "localhost", RawQuery: u.RawQuery, ForceQuery: u.ForceQuery}
	if at.Path, err = url.PathUnescape(target); err != nil {
		return nil, "", errBackendURL
	}
	at.RawPath = target
	return at, socket, nil
}

func callbackURL(field *string) value {
	return value{
		name: "url", allowed: "an http or https URL with a host, or unix: with the absolute path of a socket, and :/path if it is not /",
		quoted: func(text string) string {
			if shown := redactCallbackURL(text); shown != "" {
				return strconv.Quote(shown)
			}
			return "the given value"
		},
		parse: func(text string) error {
			if !strings.HasPrefix(text, unixScheme+":") {
				if err := checkURL(text, "http", "https"); err != nil {
					return err
				}
			} else if err := checkCharacters(text); err != nil {
				return err
			} else if _, _, err := Backend(text); err != nil {
				return because("it is not unix: with an absolute path, and then nothing, or a colon and a path that begins with /")
			}
			*field = text
			return nil
		},
		show: func() any { return redactCallbackURL(*field) },
	}
}

// redactCallbackURL is redactURL for a URL that may name a socket.
func redactCallbackURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != unixScheme {
		return redactURL(text)
	}
	if _, _, err := Backend(text); err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Path: u.Path, RawPath: u.RawPath, OmitHost: true}).String()
}

// A secret of Standard Webhooks: this, and its bytes in base64
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme).
const secretPrefix = "whsec_"

// The bounds of the specification on the bytes of a secret, and ours on how many sign a callback: each
// signature is 48 bytes of its head.
const (
	minSecret, maxSecret = 24, 64
	maxSecrets           = 8
)

// signingSecrets accepts secrets that are separated by commas, spaces or line ends.
func signingSecrets(field *[][]byte) value {
	return value{
		name: "secrets", list: true, allowed: "1 to 8 secrets, each whsec_ and 24 to 64 bytes in base64, separated by commas or line ends",
		quoted: func(string) string { return "the given value" },
		parse: func(text string) error {
			parts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
			if len(parts) == 0 || len(parts) > maxSecrets {
				return errNotAllowed
			}
			all := make([][]byte, len(parts))
			for i, part := range parts {
				encoded, ok := strings.CutPrefix(part, secretPrefix)
				if !ok {
					return because("secret number %d does not begin with %s", i+1, secretPrefix)
				}
				secret, err := base64.StdEncoding.DecodeString(encoded)
				if err != nil {
					return because("secret number %d is not base64 behind %s", i+1, secretPrefix) // the error itself tells of its bytes
				}
				if len(secret) < minSecret || len(secret) > maxSecret {
					return because("secret number %d has %d bytes", i+1, len(secret))
				}
				all[i] = secret
			}
			*field = all
			return nil
		},
		show: func() any {
			if len(*field) == 0 {
				return ""
			}
			return "(set)"
		},
	}
}
