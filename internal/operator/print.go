package operator

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// printable returns a text in which what could change a terminal, or pass for another line or
// column, is an escape. Clients choose paths, and whoever publishes chooses data.
func printable(s string) string {
	isPrintable := func(r rune) bool { return unicode.IsPrint(r) && r != utf8.RuneError }
	if !strings.ContainsFunc(s, func(r rune) bool { return !isPrintable(r) }) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// number returns a number of things with their name.
func number(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.FormatInt(n, 10) + " " + thing
}

// dash returns - for an empty column.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age returns how long something has been there, in its two largest units.
func age(since time.Time) string {
	d := max(0, time.Since(since)).Round(time.Second)
	switch {
	case d >= 24*time.Hour:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d" + strconv.Itoa(int(d%(24*time.Hour)/time.Hour)) + "h"
	case d >= time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h" + strconv.Itoa(int(d%time.Hour/time.Minute)) + "m"
	default:
		return d.String()
	}
}
