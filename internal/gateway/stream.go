package gateway

// Stream carries bytes to one client. The gateway calls all its methods under the lock of its
// connection, so none may block or call back into that connection. A Stream calls the methods
// Ready, Pump and Abort of its Conn without that lock.
type Stream interface {
	// Start begins to watch the client. It is called once, before anything is written; a non-zero
	// Detail reports that it failed.
	Start() Detail

	// Write hands as much of p to the client as it takes now. If that is less than len(p), the
	// stream is full, or a goroutine of its own writes by Pump. It then calls Ready or Pump when it
	// can continue. A non-zero Detail reports that the stream is broken.
	Write(p []byte) (n int, fault Detail)

	// Left returns whether the client has ended the stream, and how; zero if it has not.
	Left() (Reason, Detail)

	// Look distinguishes a slow client from a stalled or lost one. The gateway calls it twice a
	// second while bytes wait for the client, and after that as long as the client has not
	// acknowledged everything that was written. progress grows whenever the client acknowledges
	// something. last is the result of the call before, 0 for the first call.
	Look(last uint64) (progress uint64, owing bool)

	// Close releases everything. A clean close follows the end of the stream, which has been
	// written. An abort tells the client, if the protocol can, that the stream was cut. Close is
	// called exactly once, unless Start failed.
	Close(abort bool)

	// Chunked reports whether frames are written with HTTP/1.1 chunk framing.
	Chunked() bool
}
