//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

func (o *options) measure(context.Context, io.Writer) (Results, error) {
	return Results{}, errors.New("comparing needs Linux; --from makes the document of what was measured there")
}
