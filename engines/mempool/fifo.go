package mempool

// fifo is a queue of entries. An entry that no longer belongs in it is dropped when it comes to the
// head.
type fifo struct {
	list []*entry
	head int
}

func (q *fifo) push(e *entry) { q.list = append(q.list, e) }

// drop removes entries from the head as long as gone holds for them. From time to time it gives
// their memory back.
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

// all returns the queued entries, the head first. Some may no longer belong in the queue.
func (q *fifo) all() []*entry { return q.list[q.head:] }
