package sse_test

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"ssegateway/sse"
)

func ExampleEvent_AppendTo() {
	name, err := sse.NewName("greet")
	if err != nil {
		fmt.Println(err)
		return
	}
	e := sse.Event{Name: name, Retry: sse.RetryMillis(3000), Data: "Line 1\nLine 2"}
	wire := e.AppendTo(make([]byte, 0, e.Len())) // one allocation
	fmt.Print(string(wire))
	// Output:
	// event: greet
	// retry: 3000
	// data: Line 1
	// data: Line 2
}

func ExampleEvent_AppendTo_forgery() {
	e := sse.Event{Data: "hello\r\revent: admin\rdata: forged"}
	fmt.Printf("%q\n", e.AppendTo(nil))
	// Output:
	// "data: hello\ndata: \ndata: event: admin\ndata: data: forged\n\n"
}

func ExampleNewName() {
	_, err := sse.NewName("greet\ndata: forged")
	fmt.Println(err)
	// Output:
	// sse: event name contains a control character
}

func ExampleDecoder() {
	d := sse.NewDecoder(strings.NewReader(": hi\n\nevent: greet\nid: 7\ndata: a\ndata: b\n\ndata: c\n\ndata: cut off"))
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%q %q %q\n", e.Name, e.ID, e.Data)
	}
	fmt.Println("reconnect after", d.LastEventID())
	// Output:
	// "greet" "7" "a\nb"
	// "" "7" "c"
	// reconnect after 7
}
