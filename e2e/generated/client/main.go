// Command client uses the API of a gateway through the client that oapi-codegen has generated. It ends with an error if an
// answer is not what it should be.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"ssegateway/e2e/generated/client/gateway"
)

func main() {
	ctx := context.Background()
	base, secret, token, topic := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	authorized := gateway.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+secret)
		return nil
	})
	c := must(gateway.NewClientWithResponses(base, authorized))

	page := must(c.ListConnectionsWithResponse(ctx, &gateway.ListConnectionsParams{Topic: &topic, Limit: pointer(10)})).JSON200
	want(page.Connections[0].Token == token && page.Connections[0].State == gateway.Open && page.NextCursor == nil, page)
	one := must(c.GetConnectionWithResponse(ctx, token)).JSON200
	want(one.Path == "/" && one.Topics[0] == topic && one.Overflow == gateway.OverflowDisconnect && one.Since.Year() > 2000 && one.Request.Path == "/", one)

	sent := must(c.SendWithResponse(ctx, gateway.Send{
		Token: token, Event: &gateway.Event{Name: pointer("order"), Data: "sent"}, Wait: pointer(gateway.SendWaitWritten),
	})).JSON200
	want(sent.Status == gateway.SentStatusWritten, sent)

	before := must(c.PositionWithResponse(ctx)).JSON200
	published := must(c.PublishWithResponse(ctx, gateway.Publish{
		Topic: &topic, Event: gateway.Event{Data: "published"}, Retain: pointer(true), Key: pointer("a key"),
	})).JSON200
	want(published.Status == gateway.PublishedStatusOk && *published.Receivers == 1 && published.Id != nil, published)
	position := must(c.PositionWithResponse(ctx)).JSON200
	want(position.Position == *published.Id && position.Position != before.Position, position)
	tail := must(c.Tail(ctx, &gateway.TailParams{Topic: []string{topic}, LastEventID: &before.Position}))
	defer tail.Body.Close()
	for lines := bufio.NewScanner(tail.Body); lines.Text() != "data: published"; {
		want(lines.Scan(), "the tail has ended")
	}
	retained := must(c.ListRetainedWithResponse(ctx, &gateway.ListRetainedParams{Topic: &topic})).JSON200
	want(len(retained.Retained) == 1 && *retained.Retained[0].Key == "a key" && retained.Retained[0].Event.Data == "published", retained)
	removed := must(c.RemoveRetainedWithResponse(ctx, &gateway.RemoveRetainedParams{Topic: topic})).JSON200
	want(removed.Removed == 1, removed)

	operations := make([]gateway.Operation, 3)
	check(operations[0].FromSend(gateway.Send{Token: token, Event: &gateway.Event{Data: "in a batch"}}))
	check(operations[1].FromPublish(gateway.Publish{Topics: &[]string{topic}, Event: gateway.Event{Data: "to all in a batch"}, Store: pointer(false)}))
	check(operations[2].FromPublish(gateway.Publish{Event: gateway.Event{Data: "to nobody"}}))
	results := must(c.BatchWithResponse(ctx, gateway.Batch{Operations: operations})).JSON200.Results
	want(must(results[0].AsSent()).Status == gateway.SentStatusOk, results)
	want(*must(results[1].AsPublished()).Receivers == 1, results)
	want(must(results[2].AsError()).Error.Code == gateway.INVALIDTOPICS, results)

	changed := must(c.ChangeConnectionWithResponse(ctx, token, changeOf("another"))).JSON200
	want(changed.Status == gateway.ChangedStatusOk && len(changed.Topics) == 2, changed)
	streamed := must(c.StreamToConnectionWithBodyWithResponse(ctx, token, &gateway.StreamToConnectionParams{CoalesceMs: pointer(5)},
		"text/event-stream", strings.NewReader("data: streamed\n\n"))).JSON200
	want(streamed.Status == gateway.StreamedStatusOk && streamed.Events == 1, streamed)
	stats := must(must(c.StatsWithResponse(ctx, &gateway.StatsParams{})).JSON200.AsStats())
	want(stats.Connections.Open == 1 && stats.EventsWritten >= 5 && stats.Log.Events > 0 && stats.Cluster == nil, stats)
	history := must(must(c.StatsWithResponse(ctx, &gateway.StatsParams{History: pointer("15m")})).JSON200.AsHistory())
	want(history.IntervalSeconds == 5, history)

	closed := must(c.CloseConnectionWithResponse(ctx, token)).JSON200
	want(closed.Status == gateway.ClosedConnectionStatusOk, closed)
	none := must(c.CloseConnectionsWithResponse(ctx, &gateway.CloseConnectionsParams{Topic: &topic})).JSON200
	want(none.Closed == 0, none)

	gone := must(c.SendWithResponse(ctx, gateway.Send{Token: token}))
	want(gone.StatusCode() == 404 && gone.JSON404.Error.Code == gateway.TOKENNOTFOUND, gone)
	invalid := must(c.PublishWithResponse(ctx, gateway.Publish{Event: gateway.Event{Data: "to nobody"}}))
	want(invalid.StatusCode() == 400 && invalid.JSON400.Error.Code == gateway.INVALIDTOPICS, invalid)
	stranger := must(must(gateway.NewClientWithResponses(base)).StatsWithResponse(ctx, nil))
	want(stranger.StatusCode() == 401 && stranger.JSON401.Error.Code == gateway.UNAUTHORIZED, stranger)
	large := must(c.GetConnectionWithResponse(ctx, strings.Repeat("x", 40<<10)))
	want(large.StatusCode() == 431 && large.JSONDefault.Error.Code == gateway.REQUESTTOOLARGE, large)
}

func changeOf(topic string) (c gateway.Change) {
	c.Topics.Add = &[]string{topic}
	return c
}

func pointer[T any](v T) *T { return &v }

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// want ends the program if the answer is not as it should be.
func want(is bool, answer any) {
	if !is {
		text, _ := json.Marshal(answer)
		panic(fmt.Sprintf("the answer is %s", text))
	}
}
