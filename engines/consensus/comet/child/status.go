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

// Status is the exit status by which the process of CometBFT tells the node what Run returned:
// whether a restart may mend it. The last line on stderr is to be the error.
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

// UpLine is what the process writes to stdout when CometBFT has shaken hands, listens, and dials
// its peers.
const UpLine = "CometBFT is up"

// panicked is a panic of CometBFT's while it was made. Its stack is on stderr.
type panicked struct{ value any }

// Error is one line, which begins as the panic does.
func (p *panicked) Error() string {
	return fmt.Sprintf("panic: %.200s", strings.Join(strings.Fields(fmt.Sprint(p.value)), " "))
}

func (p *panicked) Unwrap() error { err, _ := p.value.(error); return err }

// Busy tells of an error of the machine's, that may be gone the next time.
func Busy(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE,
		syscall.ENOMEM, syscall.EAGAIN, syscall.EADDRINUSE} {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}
