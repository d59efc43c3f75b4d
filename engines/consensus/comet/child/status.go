package child

import (
	"errors"
	"fmt"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"strings"
	"syscall"
)

// Exit statuses of the process, the same as those of a node.
const (
	StatusConfig = 3
	StatusDamage = 5
)

// ChildStatus is the exit status by which the process of CometBFT tells the node what RunChild
// returned: whether a restart may mend it. The last line on stderr is to be the error.
func Status(err error) int {
	switch {
	case err == nil:
		return 0
	case Busy(err):
		return 1
	case errors.Is(err, comethome.ErrChainData), errors.Is(err, comethome.ErrChainDamage), errors.Is(err, comethome.ErrSigning):
		return StatusDamage
	case errors.Is(err, comethome.ErrHome), errors.Is(err, comethome.ErrGenesis):
		return StatusConfig
	}
	return 1
}

// upLine is what the process writes to stdout when CometBFT has shaken hands, listens, and dials
// its peers.
const UpLine = "CometBFT is up"

// panicked is a panic of CometBFT's while it was made. Its stack is on stderr.
type panicked struct{ value any }

// Error is one line, which begins as the panic does.
func (p *panicked) Error() string {
	return fmt.Sprintf("panic: %.200s", strings.Join(strings.Fields(fmt.Sprint(p.value)), " "))
}

func (p *panicked) Unwrap() error { err, _ := p.value.(error); return err }

// busy tells of an error of the machine's, that may be gone the next time.
func Busy(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE,
		syscall.ENOMEM, syscall.EAGAIN, syscall.EADDRINUSE} {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}
