package gateway

// Stream carries bytes to one client. The gateway calls all its methods under
// the lock of the connection that it was given to, so none may block, and none
// may call back into that connection.
//
// A Stream reports to its Conn from outside that lock: Ready, Pump and Abort.
type Stream interface {
	// Start begins to watch the client. It is called once, before anything is
	// written; a Detail other than zero says that it failed.
	Start() Detail

	// Write hands to the client what it takes now of p. Fewer bytes than len(p)
	// mean that the stream is full (or writes from a goroutine of its own, by
	// Pump); it then calls Ready or Pump when it can go on. A Detail other than
	// zero says that the stream is broken.
	Write(p []byte) (n int, fault Detail)

	// Left tells whether the client has ended the stream, and how; zero if not.
	Left() (Reason, Detail)

	// Look tells a slow client from a stalled one, or a lost one. The gateway looks
	// twice a second while bytes wait for the client, and after that for as long as
	// some are owing: written, and not acknowledged by the client. progress grows
	// whenever the client acknowledges some. last is what the look before answered,
	// 0 at the first.
	Look(last uint64) (progress uint64, owing bool)

	// Close releases everything. A clean close follows the stream's end, which
	// has been written; an abort tells the client, where the protocol can, that
	// the stream was cut. It is called exactly once, unless Start failed.
	Close(abort bool)

	// Chunked says whether frames go with their HTTP/1.1 chunk framing.
	Chunked() bool
}
