package child

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Exit statuses of the process, the same as those of a node.
const (
	StatusConfig = 3
	StatusDamage = 5
)

// Status returns the exit status for an error of Run. From it and the last line on stderr, which
// must be the error, the driver decides whether another start may succeed.
func Status(err error) int {
	if err == nil {
		return 0
	}
	if Busy(err) {
		return 1
	}

	switch comethome.Class(err) {
	case consensus.Damage:
		return StatusDamage
	case consensus.Config:
		return StatusConfig
	}
	return 1
}

// UpLine is the line that the process writes to stdout when CometBFT has shaken hands with the
// application, listens, and dials its peers.
const UpLine = "CometBFT is up"

// panicked is a panic of CometBFT while its node was made. Its stack is on stderr.
type panicked struct{ value any }

// Error returns the panic's text on one line.
func (p *panicked) Error() string {
	return fmt.Sprintf("panic: %.200s", strings.Join(strings.Fields(fmt.Sprint(p.value)), " "))
}

func (p *panicked) Unwrap() error { err, _ := p.value.(error); return err }

// Busy reports whether err is about the machine, such as a full disk, and not about the home, so
// that another start may succeed. It also judges by error texts, because CometBFT loses the types
// of errors.
func Busy(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE,
		syscall.ENOMEM, syscall.EAGAIN, syscall.EADDRINUSE} {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}
