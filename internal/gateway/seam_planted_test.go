package gateway_test

// wrongEvents is what TestSeam says of a client that got other events than it should;
// which of it depends on the events around.
var wrongEvents = []string{"is missing", "came twice", "is not for it", "came out of order"}

// seamPlants are what TestSeam has to find.
var seamPlants = []plant{
	{
		bug: "an event skipped at the seam", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\tm.seq = extent.Records\n",
		new:  "\tm.seq = extent.Records\n\tif BUG {\n\t\tm.after++\n\t}\n",
		says: wrongEvents,
	},
	{
		bug: "where the log was when the backend was asked is forgotten", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\tif begin.Asked.Epoch != \"\" {\n",
		new:  "\tif begin.Asked.Epoch != \"\" && !BUG {\n",
		says: append([]string{"it opens at"}, wrongEvents...),
	},
	{
		bug: "the position of the connect counts before what the backend names", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\tif from != \"\" {\n",
		new:  "\tif from != \"\" && (!BUG || begin.LastEventID != \"\" || begin.Asked.Epoch == \"\") {\n",
		says: append([]string{"it opens at", "gap sent: false"}, wrongEvents...),
	},
	{
		bug: "an event doubled at the seam", file: "../topics/welcome.go", test: "TestSeam",
		old:  "upto: max(start.Offset, position)})\n",
		new:  "upto: max(start.Offset, position)})\n\t\tif BUG && start.Offset < position {\n\t\t\tthen.upto++\n\t\t}\n",
		says: wrongEvents,
	},
	{
		bug: "the last event missed not replayed", file: "../topics/welcome.go", test: "TestSeam",
		old:  "upto: max(start.Offset, position)})\n",
		new:  "upto: max(start.Offset, position)})\n\t\tif BUG && start.Offset < position {\n\t\t\tthen.upto--\n\t\t}\n",
		says: wrongEvents,
	},
	{
		bug: "an event again from a shard that is behind", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\t\tm.after = start.Offset\n",
		new:  "\t\tif !BUG {\n\t\t\tm.after = start.Offset\n\t\t}\n",
		says: wrongEvents,
	},
	{
		bug: "live events before the replay", file: "conn.go", test: "TestSeam",
		old:  "\tif missed == nil && buffered == nil {\n",
		new:  "\tif BUG && missed != nil {\n\t\tlate := missed\n\t\tmissed = nil\n\t\tlater(func() { c.mu.Lock(); defer c.unlock(); if c.stream != nil { c.lagLocked().PushSource(source{late}); c.flushLocked() } })\n\t}\n\tif missed == nil && buffered == nil {\n",
		says: wrongEvents,
	},
	{
		bug: "a gap not said", file: "../topics/welcome.go", test: "TestSeam",
		old:  "min(extent.Trimmed, position), true // it still",
		new:  "min(extent.Trimmed, position), gap || !BUG // it still",
		says: []string{"no gap, but the log begins at", "it opens at"},
	},
	{
		bug: "a gap not said for another log", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\t\t\tgap = true // it is unknown",
		new:  "\t\t\tgap = !BUG || !ok // it is unknown",
		says: []string{"gap sent: false", "but what is live was between"},
	},
	{
		bug: "a gap in a replay not said", file: "../topics/replay.go", test: "TestSeam",
		old:  "\tif !reaches && r.after < r.upto {\n",
		new:  "\tif !reaches && r.after < r.upto && !BUG {\n",
		says: wrongEvents,
	},
	{
		bug: "a topic no longer granted still delivered", file: "../topics/member.go", test: "TestSeam",
		old:  "\ts.inPieces(len(leave), func(i int) { s.leaveLocked(m, leave[i]) })\n",
		new:  "\ts.inPieces(len(leave), func(i int) {\n\t\tif BUG {\n\t\t\ts.joinLocked(&Member{subscriber: m.subscriber, shard: s, log: m.log}, m.topics[leave[i]].topic.name)\n\t\t}\n\t\ts.leaveLocked(m, leave[i])\n\t})\n",
		says: append([]string{"left behind: topics in shards"}, wrongEvents...),
	},
	{
		bug: "a topic that was removed still replayed", file: "../topics/member.go", test: "TestRemovedFromReplay",
		old:  "\t\t\tr.remove(gone)\n",
		new:  "\t\t\tif !BUG {\n\t\t\t\tr.remove(gone)\n\t\t\t}\n",
		says: []string{"1001 arrived, want 668"},
	},
	{
		bug: "what a replay took of a topic that is removed", file: "grant.go", test: "TestRemovedFromReplay",
		old:  "\tif len(remove) > 0 {\n",
		new:  "\tif len(remove) > 0 && !BUG {\n",
		says: []string{"arrived, want 668"},
	},
	{
		bug: "a replay that stops when all it took is removed", file: "replayer.go", test: "TestRemovedAllThatWaits",
		old:  "\t\tc.lag.Prune(source{r}, r.Unwanted())\n\t}\n",
		new:  "\t\tc.lag.Prune(source{r}, r.Unwanted())\n\t}\n\tif BUG {\n\t\treturn\n\t}\n",
		says: []string{"bytes wait, want those of one event"},
	},
	{
		bug: "no id with the first topics", file: "grant.go", test: "TestSeam",
		old:  "\t\tx.member = m\n",
		new:  "\t\tif x.member = m; BUG {\n\t\t\treturn m.Names(), nil\n\t\t}\n",
		says: []string{"no id for the first topics", "its first topics come with"},
	},
	{
		bug: "a topic added too late", file: "../topics/member.go", test: "TestSeam",
		old:  "\t\ts.joinLocked(m, join[i])\n",
		new:  "\t\tif BUG {\n\t\t\tm.after = max(m.after, s.position+1)\n\t\t}\n\t\ts.joinLocked(m, join[i])\n",
		says: append(wrongEvents[:len(wrongEvents):len(wrongEvents)], "a gap, but within"),
	},
	{
		bug: "once for each topic", file: "../topics/member.go", test: "TestSeam",
		old:  "\tif n <= *had ||",
		new:  "\tif n <= *had && (!BUG || record.Stored) ||",
		says: wrongEvents,
	},
	{
		bug: "a former member of a topic moved wrongly", file: "../topics/shard.go", test: "TestSeam",
		old:  "\t\tmoved.topic.members[moved.index].index = int32(index)",
		new:  "\t\tif BUG {\n\t\t\treturn\n\t\t}\n\t\tmoved.topic.members[moved.index].index = int32(index)",
		says: append([]string{"left behind: topics in shards", "index out of range"}, wrongEvents...),
	},
	{
		bug: "an unstored event again from a shard that is behind", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\tm.seq = extent.Records\n",
		new:  "\tif m.seq = extent.Records; BUG {\n\t\tm.seq = 0\n\t}\n",
		says: wrongEvents,
	},
	{
		bug: "a gap at once for who is ahead of its node", file: "../topics/welcome.go", test: "TestSeam",
		old:  "(named.Offset <= extent.Last || s.topics.shared)",
		new:  "(named.Offset <= extent.Last || s.topics.shared && !BUG)",
		says: append([]string{"a gap, but the log reaches back"}, wrongEvents...),
	},
	{
		bug: "an unstored event from before what the client has", file: "../topics/member.go", test: "TestSeam",
		old:  " || record.Offset < m.after {\n",
		new:  " || record.Offset < m.after && !BUG {\n",
		says: wrongEvents,
	},
	{
		bug: "a wait without an end", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\tif reached >= had.Offset && m.log.Epoch() == had.Epoch {\n",
		new:  "\tif reached >= had.Offset && m.log.Epoch() == had.Epoch || BUG {\n",
		says: []string{"no gap, but within 10 s"},
	},
	{
		bug: "a wait given up though it was over", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\treached := m.log.Stats().Last\n",
		new:  "\treached := m.log.Stats().Last\n\tif BUG {\n\t\treached = 0\n\t}\n",
		says: append([]string{"a gap, but within 10 s", "it goes on from"}, wrongEvents...),
	},
	{
		bug: "a hole taken for a gap", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\tif start.Offset < min(extent.Trimmed, position) {\n",
		new:  "\tif start.Offset < min(extent.Trimmed, position) || BUG && start.Offset+1 < extent.Oldest && start.Offset < position {\n",
		says: []string{"a gap, but the log reaches back", "behind the gap it opens at"},
	},
	{
		bug: "what the client is ahead of forgotten as the log is replaced", file: "../topics/shard.go", test: "TestSeam",
		old:  "\t\tr.after = max(m.after, position)\n",
		new:  "\t\tif r.after = max(m.after, position); BUG {\n\t\t\tr.after = position\n\t\t}\n",
		says: append([]string{"no gap, but within 10 s"}, wrongEvents...),
	},
	{
		bug: "the id before what is retained", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\tif first != nil {\n\t\tid = sse.ID{} // it",
		new:  "\tif first != nil && !BUG {\n\t\tid = sse.ID{} // it",
		says: []string{"is missing in its state", "comes behind a gap that has the id"},
	},
	{
		bug: "an id too early for who is cut", file: "../topics/welcome.go", test: "TestCutOpening",
		old:  "\tid := idOf(m.log, start.Offset)\n",
		new:  "\tid := idOf(m.log, start.Offset)\n\tif BUG {\n\t\topening = append(opening, frame.Block(sse.AppendID(nil, id)))\n\t}\n",
		says: []string{"is missing in"},
	},
	{
		bug: "a retained event twice", file: "../broker/retained.go", test: "TestSeam",
		old:  "records[len(records)-1].Offset != r.first.Offset {",
		new:  "records[len(records)-1].Offset != r.first.Offset || BUG {",
		says: []string{"came twice"},
	},
	{
		bug: "a retained event missing behind a gap", file: "../topics/replay.go", test: "TestSeam",
		old:  "\t\t\tr.after = goesOn\n",
		new:  "\t\t\tif r.after = goesOn; BUG {\n\t\t\t\tr.state.after = r.log.State(0, goesOn, r.topics, 0, 1)[0].Offset\n\t\t\t}\n",
		says: []string{"is missing in its state"},
	},
	{
		bug: "nothing retained behind a gap", file: "../topics/replay.go", test: "TestSeam",
		old:  "goesOn, 0); r.state != nil {",
		new:  "goesOn, 0); r.state != nil && BUG {\n\t\t\tr.state = nil\n\t\t} else if r.state != nil {",
		says: []string{"is missing in its state"},
	},
	{
		bug: "nothing retained for who has waited in vain", file: "../topics/welcome.go", test: "TestSeam",
		old:  "newState(m.log, names, reached, 0); first != nil {",
		new:  "newState(m.log, names, reached, 0); first != nil && !BUG {",
		says: []string{"is missing in its state"},
	},
	{
		bug: "retained events for who has a position", file: "../topics/welcome.go", test: "TestSeam",
		old:  "\tif (from == \"\" || gap) &&",
		new:  "\tif (from == \"\" || gap || BUG) &&",
		says: []string{"comes to one who has a position"},
	},
	{
		bug: "a rewind one too short", file: "../broker/retained.go", test: "TestSeam",
		old:  "list[max(0, end-rewind):end]",
		new:  "list[max(0, end-rewind+map[bool]int{true: 1}[BUG]):end]",
		says: []string{"is missing in its state"},
	},
	{
		bug: "a rewind one too long", file: "../broker/retained.go", test: "TestSeam",
		old:  "\t\tend := sort.Search(len(list), ",
		new:  "\t\trewind := rewind + map[bool]int{true: 1}[BUG]\n\t\tend := sort.Search(len(list), ",
		says: []string{"but is not in its state"},
	},
	{
		bug: "a removal out of order", file: "../broker/log.go", test: "TestSeam",
		old:  "\t\tr = &Record{Offset: offset, Ref: p.Ref, Removed: l.kept.remove(p.Topics, p.Key)}\n",
		new:  "\t\tr = &Record{Offset: offset, Ref: p.Ref}\n\t\tif BUG {\n\t\t\tlater(func() { l.mu.Lock(); defer l.mu.Unlock(); l.kept.remove(p.Topics, p.Key) })\n\t\t} else {\n\t\t\tr.Removed = l.kept.remove(p.Topics, p.Key)\n\t\t}\n",
		says: []string{"but is not in its state", "is missing in its state"},
	},
	{
		bug: "what is retained behind the position too", file: "../broker/retained.go", test: "TestSeam",
		old:  "\tfor len(r.kept) > 0 && r.kept[0].offset <= upto {\n",
		new:  "\tfor len(r.kept) > 0 && (r.kept[0].offset <= upto || BUG) {\n",
		says: append([]string{"but is not in its state", "came out of order"}, wrongEvents...),
	},
	{
		bug: "one that is replaced still retained", file: "../broker/retained.go", test: "TestSeam",
		old:  "\tl.at[i].kept = nil\n",
		new:  "\tif !BUG {\n\t\tl.at[i].kept = nil\n\t}\n",
		says: []string{"but is not in its state"},
	},
	{
		bug: "no id behind a state without topics", file: "../topics/replay.go", test: "TestSeam",
		old:  "\tif r.state != nil {\n\t\tr.nextState",
		new:  "\tif r.state != nil && (!BUG || len(r.topics) > 0) {\n\t\tr.nextState",
		says: []string{"no opening at all", "no id behind a gap", "its first topics come with", "but is not in its state"},
	},
	{
		bug: "a topic that was removed still in a state", file: "../topics/replay.go", test: "TestStateWithoutTopics",
		old:  "\tr.topics = slices.DeleteFunc(r.topics, func(name string) bool { return gone[name] })\n",
		new:  "\tif r.state == nil || !BUG {\n\t\tr.topics = slices.DeleteFunc(r.topics, func(name string) bool { return gone[name] })\n\t}\n",
		says: []string{"without topics: has"},
	},
}
