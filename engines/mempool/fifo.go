package mempool

// fifo is a queue of entries from which those that no longer belong are dropped when they come to
// its head.
type fifo struct {
	list []*entry
	head int
}

func (q *fifo) push(e *entry) { q.list = append(q.list, e) }

// drop removes entries from the head as long as gone says so, and gives their memory back now and
// then.
func (q *fifo) drop(gone func(*entry) bool) {
	for q.head < len(q.list) && gone(q.list[q.head]) {
		q.list[q.head] = nil
		q.head++
	}
	if q.head > 1024 && q.head > len(q.list)/2 {
		q.list = append([]*entry(nil), q.list[q.head:]...)
		q.head = 0
	}
}

// all is what is queued, the head first. Some of it may be gone.
func (q *fifo) all() []*entry { return q.list[q.head:] }
