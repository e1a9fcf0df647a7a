//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

func (o *options) measure(context.Context, io.Writer) (results, error) {
	return results{}, errors.New("measuring needs Linux")
}
