package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"strings"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
)

// NewPrefix returns a prefix for keys that no other run has.
func NewPrefix() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	return "load/" + hex.EncodeToString(b) + "/"
}

const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

// Puts returns a Config.Next whose items each put a random value of size letters at a key of their
// own below prefix.
func Puts(prefix string, size int) func(n uint64) (Item, error) {
	return func(n uint64) (Item, error) {
		value := make([]byte, size)
		for i := 0; i < size; {
			for r, left := mrand.Uint64(), 10; left > 0 && i < size; left-- {
				value[i] = letters[r&63]
				r >>= 6
				i++
			}
		}

		key := fmt.Sprintf("%s%d", prefix, n)
		body, err := kv.Encode(kv.Put([]byte(key), value))
		return Item{Key: key, Value: string(value), Body: body}, err
	}
}

// Counters returns a Config.Next whose items each add 1 to a counter of their own below prefix. A
// counter is 1 if its item was applied once.
func Counters(prefix string) func(n uint64) (Item, error) {
	return func(n uint64) (Item, error) {
		key := fmt.Sprintf("%s%d", prefix, n)
		body, err := kv.Encode(kv.Add([]byte(key), 1))
		return Item{Key: key, Value: "1", Body: body}, err
	}
}

// WriteAcked returns a Config.Acked that writes a line "key value" for each item.
func WriteAcked(w io.Writer) func(items []Item) error {
	return func(items []Item) error {
		var lines bytes.Buffer
		for _, it := range items {
			fmt.Fprintf(&lines, "%s %s\n", it.Key, it.Value)
		}
		_, err := w.Write(lines.Bytes())
		return err
	}
}

// ErrLine is the error of Check for a file that WriteAcked did not write.
var ErrLine = errors.New("want lines \"key value\"")

// Mismatch is an acknowledged item that the state lacks, or has with another value.
type Mismatch struct {
	Key, Want, Got string
	Found          bool
}

func (m Mismatch) String() string {
	if !m.Found {
		return fmt.Sprintf("%s is not there", m.Key)
	}
	return fmt.Sprintf("%s is %q, want %q", m.Key, m.Got, m.Want)
}

// Check reads what WriteAcked wrote, and calls miss for each item that the node's state lacks or
// has with another value. It returns the number of lines. It does not count a last line without a
// newline: its writer was killed before the line was complete.
func Check(ctx context.Context, c *client.Client, acked io.Reader, miss func(Mismatch)) (lines uint64, err error) {
	in := bufio.NewReaderSize(acked, 64<<10)
	var batch []Item

	for at := 1; ; at++ {
		line, err := in.ReadString('\n')
		if err != nil && err != io.EOF {
			return lines, err
		}

		if err == nil {
			key, value, ok := strings.Cut(line[:len(line)-1], " ")
			if !ok || key == "" || strings.Contains(value, " ") {
				return lines, fmt.Errorf("line %d: %w, got %.80q", at, ErrLine, line)
			}
			batch = append(batch, Item{Key: key, Value: value})
			lines++
		}

		if len(batch) == checkBatch || err == io.EOF {
			if missing := Compare(ctx, c, batch, miss); missing != nil {
				return lines, missing
			}
			batch = batch[:0]
		}

		if err == io.EOF {
			return lines, nil
		}
	}
}

// checkBatch is how many keys Compare reads at a time.
const checkBatch = 500

// Compare reads the items' keys and calls miss for each whose value differs.
func Compare(ctx context.Context, c *client.Client, items []Item, miss func(Mismatch)) error {
	for len(items) > 0 {
		part := items[:min(len(items), checkBatch)]
		items = items[len(part):]
		keys := make([][]byte, len(part))
		for i, it := range part {
			keys[i] = []byte(it.Key)
		}

		r, err := c.GetMany(ctx, keys)
		if err != nil {
			return err
		}

		for i, v := range r.Values {
			if v == nil || string(v) != part[i].Value {
				miss(Mismatch{Key: part[i].Key, Want: part[i].Value, Got: string(v), Found: v != nil})
			}
		}
	}
	return nil
}
