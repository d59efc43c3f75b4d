package command

import (
	"errors"
	"os"

	"github.com/coppice-go/coppice/engines/chain"
)

// own is a backend of a program's own, which the stock program lacks. A body is a key, and its
// value becomes "own".
type own struct{}

func (own) Name() string { return "own" }

func (own) Check(body []byte) error {
	if len(body) == 0 {
		return errors.New("want a key")
	}
	return nil
}

func (own) Execute(v chain.View, body []byte) ([]byte, error) { return nil, v.Put(body, []byte("own")) }

// newer is own in its second version, which executes the transactions of the first as that did.
type newer struct{ own }

func (newer) Versions() (oldest, newest uint32) { return 1, 2 }

// unlike is own in a second version that executes old transactions in another way.
type unlike struct{ own }

func (unlike) Versions() (oldest, newest uint32) { return 2, 2 }

// faulty is own with a mistake: it computes other values, and does not say that it is another
// version.
type faulty struct{ own }

func (faulty) Execute(v chain.View, body []byte) ([]byte, error) {
	return nil, v.Put(body, []byte("faulty"))
}

// programWith returns the main of a program with a backend.
func programWith(b chain.Backend) func() {
	return func() { os.Exit(Main(Program{Backends: []chain.Backend{b}})) }
}
