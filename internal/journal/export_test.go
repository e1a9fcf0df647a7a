package journal

// Clean reports whether the log was closed, or is new.
func (l *Log) Clean() bool { return l.found.fresh || l.found.clean }

// Len returns how many values are counted.
func (t *Table) Len() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, live := range t.live {
		n += live
	}
	return n
}
