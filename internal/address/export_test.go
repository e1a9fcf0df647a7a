package address

import "fmt"

// MaxAddresses is the most addresses without a stream that are remembered.
const MaxAddresses = shards * maxIdle

// Check compares what is counted of the table with the table.
func (l *Limits) Check() error {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		idle := 0
		for k, e := range s.table {
			if e.streams < 0 {
				return fmt.Errorf("%v has %d streams", k, e.streams)
			}
			if e.streams == 0 {
				idle++
			}
		}
		if idle != s.idle || len(s.table) > s.most {
			return fmt.Errorf("%d of %d entries without a stream, counted as %d of %d", idle, len(s.table), s.idle, s.most)
		}
		s.mu.Unlock()
	}
	return nil
}
