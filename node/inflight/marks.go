package inflight

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/engines/chain"
)

// The file of marks: a header, and slots of one cache line each, so that workers do not share one.
// Numbers have the machine's own byte order: they are not read after a boot or on another machine.
//
//	 0  8  magic
//	 8  4  format
//	12  4  slots
//	16 16  run: random, made with the file
//	32 16  boot: hash of the system's name for its current boot, 0 if it has none
//	48  4  closed: 1 once the process has stopped in order
//
//	 0  4  state of a slot
//	 8 32  transaction
const (
	marksMagic  = "coppmark"
	marksFormat = 1
	headerSize  = 64
	slotSize    = 64

	// Slots is the number of transactions that can be marked at once.
	Slots = 1024

	marksSize = headerSize + Slots*slotSize
)

// States of a slot.
const (
	free    uint32 = iota
	claimed        // the id is being written; no backend code runs yet
	eager
	placed
)

type (
	header struct {
		magic         [8]byte
		format, slots uint32
		run, boot     name
		closed        atomic.Uint32
		_             [12]byte
	}
	slot struct {
		state atomic.Uint32
		_     uint32
		id    chain.TxID
		_     [24]byte
	}
	name [16]byte
)

// These lines check that the structs have the sizes of the file's layout.
var (
	_ [headerSize]byte = [unsafe.Sizeof(header{})]byte{}
	_ [slotSize]byte   = [unsafe.Sizeof(slot{})]byte{}
)

// Flight is a transaction that was running backend code.
type Flight struct {
	ID     chain.TxID
	Placed bool // it was executed at its place, not ahead of it
}

// found holds the contents of a table that a process left.
type found struct {
	run, boot name
	closed    bool
	flights   []Flight // without duplicates
}

// errMarks: the bytes are not a table of marks.
var errMarks = errors.New("not a table of marks")

// parseMarks decodes a table that a process left. The bytes may be anything.
func parseMarks(b []byte) (found, error) {
	var f found
	switch order := binary.NativeEndian; {
	case len(b) != marksSize:
		return f, fmt.Errorf("%w: %d bytes, want %d", errMarks, len(b), marksSize)
	case string(b[:8]) != marksMagic:
		return f, fmt.Errorf("%w: it begins with %q, want %q", errMarks, b[:8], marksMagic)
	case order.Uint32(b[8:]) != marksFormat || order.Uint32(b[12:]) != Slots:
		return f, fmt.Errorf("%w: format %d with %d slots, want %d with %d", errMarks, order.Uint32(b[8:]),
			order.Uint32(b[12:]), marksFormat, Slots)
	}

	f.run, f.boot = name(b[16:]), name(b[32:])
	f.closed = binary.NativeEndian.Uint32(b[48:]) != 0
	seen := make(map[Flight]bool)

	for i := range Slots {
		s := b[headerSize+i*slotSize:][:slotSize]
		state := binary.NativeEndian.Uint32(s)
		if state > placed {
			return found{}, fmt.Errorf("%w: slot %d has state %d, want at most %d", errMarks, i, state, placed)
		}
		if state == free || state == claimed {
			continue
		}

		fl := Flight{ID: chain.TxID(s[8:40]), Placed: state == placed}
		if !seen[fl] { // a replaced incarnation's worker may still run beside its successor's
			seen[fl] = true
			f.flights = append(f.flights, fl)
		}
	}

	return f, nil
}

// mapMarks replaces the file at path by a new, empty table, and maps it. A process or goroutine
// that still holds the old table marks there without any effect.
func mapMarks(path string, run, boot name) ([]byte, error) {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	// Write the whole table: a store to a page for which the disk has no room would end the
	// process.
	b := bytes.NewBuffer(make([]byte, 0, marksSize))
	b.WriteString(marksMagic)
	b.Write(binary.NativeEndian.AppendUint32(nil, marksFormat))
	b.Write(binary.NativeEndian.AppendUint32(nil, Slots))
	b.Write(run[:])
	b.Write(boot[:])
	if _, err := f.Write(b.Bytes()[:marksSize]); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, marksSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", next, err)
	}
	if err := os.Rename(next, path); err != nil {
		return nil, errors.Join(err, unix.Munmap(mem))
	}

	return mem, nil
}

// currentBoot returns a name for the current boot of the system. The name is zero if the system
// does not provide one.
func currentBoot() name {
	id, err := os.ReadFile(filepath.FromSlash("/proc/sys/kernel/random/boot_id"))
	if err != nil || len(id) == 0 {
		return name{}
	}
	sum := sha256.Sum256(id)
	return name(sum[:])
}
