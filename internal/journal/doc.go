// Package journal keeps records in files that are only appended to, so that they survive the end of
// the process at any moment.
//
// A [Dir] is a directory with a lock. It has logs, each with a name. A [Log] is a sequence of segments, which
// are files with consecutive numbers: name-00000001.journal and so on. Only the newest is written. Old
// segments go as a whole, the oldest first. Each start begins a new segment. A [Table] is the newest value of each key, on a Log
// whose old segments it empties.
//
// # Format
//
// A segment is a head and frames. A frame is what one write(2) has written: the records of all who
// wrote at the same time. All numbers are little-endian; CRC is CRC-32C.
//
//	head:   magic[8] version[2] flags[2] number[8] log[16] boot[36] name[16] CRC[4]
//	frame:  length[4] CRC of the payload[4] CRC of number, position, length and that CRC[4] payload
//	payload: records, each length[4] kind[1] data
//
// The first frame of a segment is written with its head, by what the owner wants each segment to begin
// with. Kind 0 is the journal's own: the mark of a clean stop, and fillers.
//
// # What is found at the start
//
// A process that is killed leaves a prefix of its last write. So a frame that goes beyond the end of the newest
// file was never answered, and is dropped. Everything else that is not as written is damage, and an error: a flipped bit must
// not look like the end. If the machine has stopped, its disk may have kept any part of what was not synced. With Sync that
// is the last frame at most, so damage is dropped there if nothing valid follows it. Without Sync everything from the first damage in
// the newest file on is dropped, and the owner is told that what was written may be gone ([Log.Lost]).
package journal
