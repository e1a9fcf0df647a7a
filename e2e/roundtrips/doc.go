// Package roundtrips has only a test. It writes many events of the format, and reads them again.
package roundtrips
