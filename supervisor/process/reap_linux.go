package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	// reapPause bounds how often zombies are looked for.
	reapPause = 50 * time.Millisecond
	// reapGrace is how long a zombie is left to a wait that is not visible, see reaper.
	reapGrace = 2 * time.Second
)

// reaper reaps the orphans that the system gives to this process: all those of a PID namespace if
// it is PID 1, and those of its descendants if it is a subreaper. It must not take the end of a
// process that other code of this program started and waits for, with os/exec for instance.
// Therefore a zombie is reaped
//
//   - never, while a pidfd of this program refers to it: package os holds one from the start of a
//     process until it has been waited for;
//   - at once, if it is in the process group of a process of this package, and is neither that
//     process nor the guard;
//   - otherwise once it has been a zombie for reapGrace, and only if package os has pidfds here:
//     a wait by number (syscall.Wait4) has had time by then.
type reaper struct {
	mu     sync.Mutex
	own    map[int]bool      // the processes of this package, until they have been waited for
	groups map[int]bool      // their groups, while these have members
	seen   map[int]time.Time // zombies that have to wait for reapGrace, by number, and since when
	pidfds bool              // whether package os has pidfds
	once   sync.Once
}

var orphans = reaper{own: make(map[int]bool), groups: make(map[int]bool), seen: make(map[int]time.Time)}

// adopt has the orphans of a process that has started reaped, if they come to this process.
func (r *running) adopt() {
	if !adopts() {
		return
	}

	pid := r.cmd.Process.Pid
	o := &orphans
	o.mu.Lock()
	o.own[pid], o.groups[r.group] = true, true
	if held, err := pidfds(); err == nil && held[pid] {
		o.pidfds = true
	}
	o.mu.Unlock()

	o.once.Do(func() { go o.run() })
}

// disown notes that the process has been waited for: its number may be given to another one.
func (r *running) disown() {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	delete(orphans.own, r.cmd.Process.Pid)
}

// adopts reports whether orphans become children of this process.
func adopts() bool {
	if os.Getpid() == 1 {
		return true
	}
	const getChildSubreaper = 37 // PR_GET_CHILD_SUBREAPER
	var is int32
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, getChildSubreaper, uintptr(unsafe.Pointer(&is)), 0)
	return errno == 0 && is != 0
}

// run reaps for as long as this program runs: the system gives orphans to it for as long.
func (o *reaper) run() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)

	for {
		var again <-chan time.Time
		if o.sweep() {
			again = time.After(reapGrace)
		}

		select {
		case <-ended:
		case <-again:
		}

		time.Sleep(reapPause) // several may end at once
	}
}

// sweep reaps the zombies that it may, and reports whether others may have to be reaped later.
func (o *reaper) sweep() bool {
	o.mu.Lock()
	defer o.mu.Unlock()

	for group := range o.groups {
		if syscall.Kill(-group, 0) == syscall.ESRCH {
			delete(o.groups, group)
		}
	}

	zombies := zombieChildren()
	held, err := pidfds()
	if len(zombies) == 0 || err != nil {
		clear(o.seen)
		return false
	}

	later := make(map[int]time.Time)

	for _, z := range zombies {
		switch since, known := o.seen[z.pid]; {
		case held[z.pid] || o.own[z.pid] || z.pid == z.group && o.groups[z.group]: // that is a guard
		case o.groups[z.group] || known && time.Since(since) >= reapGrace:
			_, _ = syscall.Wait4(z.pid, nil, syscall.WNOHANG, nil) // ECHILD: it was waited for after all
		case known:
			later[z.pid] = since
		case o.pidfds:
			later[z.pid] = time.Now()
		}
	}

	o.seen = later

	return len(later) > 0
}

type zombie struct{ pid, group int }

// zombieChildren returns the children of this process that have ended and are not reaped.
func zombieChildren() []zombie {
	const all = 0 // P_ALL
	var info [128]byte
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, all, 0, uintptr(unsafe.Pointer(&info)),
		syscall.WEXITED|syscall.WNOWAIT|syscall.WNOHANG, 0, 0)
	if errno != 0 || info == [128]byte{} { // none: the usual case costs one call
		return nil
	}

	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []zombie

	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has gone
		}

		// pid (name) state ppid pgrp …, and the name may contain anything
		_, rest, ok := bytes.Cut(text, []byte(" ("))
		end := bytes.LastIndexByte(rest, ')')
		if !ok || end < 0 {
			continue
		}

		var state string
		var parent int
		z := zombie{}
		if _, err := fmt.Sscan(string(rest[end+1:]), &state, &parent, &z.group); err != nil {
			continue
		}
		z.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && state == "Z" && parent == os.Getpid() {
			found = append(found, z)
		}
	}

	return found
}

var errNoProc = errors.New("/proc does not show this process")

// pidfds returns the numbers of the processes that a pidfd of this program refers to.
func pidfds() (map[int]bool, error) {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil, errNoProc // there is no /proc, or it is that of another PID namespace
	}

	infos, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		return nil, err
	}
	held := make(map[int]bool)

	for _, info := range infos {
		text, err := os.ReadFile("/proc/self/fdinfo/" + info.Name())
		if err != nil {
			continue // closed since
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "Pid:"); ok {
				if pid, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
					held[pid] = true
				}
			}
		}
	}

	return held, nil
}
