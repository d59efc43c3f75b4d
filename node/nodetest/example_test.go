package nodetest_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/nodetest"
)

// A test submits a transaction, cuts the power, and checks that what was acknowledged is still
// there.
func Example() {
	t := newExampleTB() // in a test: the *testing.T
	defer t.finish()

	n := nodetest.Start(t)
	c := n.Client()
	body, err := kv.Encode(kv.Put([]byte("wood"), []byte("coppice")))
	if err != nil {
		t.Fatalf("%v", err)
	}
	if _, err := c.SubmitWait(t.Context(), chain.NewTx(kv.Name, body, time.Minute)); err != nil {
		t.Fatalf("%v", err)
	}

	n.Crash()

	value, found, err := c.Get(t.Context(), []byte("wood"))
	fmt.Println(string(value), found, err)
	// Output: coppice true <nil>
}

// Any child of the tree can be killed; Cut waits until its successor and the whole tree run.
func ExampleNode_Cut() {
	t := newExampleTB()
	defer t.finish()

	n := nodetest.Start(t)
	before, _ := n.Supervisor().Tree().Find("coppice/node/logger")
	n.Cut("coppice/node/logger")
	after, _ := n.Supervisor().Tree().Find("coppice/node/logger")
	fmt.Println(after.State, after.Incarnation > before.Incarnation)
	// Output: running true
}

// exampleTB replaces the *testing.T, which an example does not have. It keeps the errors.
type exampleTB struct {
	testing.TB
	cleanup []func()
	errors  []string
}

func newExampleTB() *exampleTB { return &exampleTB{} }

func (t *exampleTB) Helper()                   {}
func (t *exampleTB) Context() context.Context  { return context.Background() }
func (t *exampleTB) Cleanup(f func())          { t.cleanup = append(t.cleanup, f) }
func (t *exampleTB) Failed() bool              { return false }
func (t *exampleTB) Logf(string, ...any)       {}
func (t *exampleTB) Errorf(f string, a ...any) { t.errors = append(t.errors, fmt.Sprintf(f, a...)) }
func (t *exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func (t *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "nodetest")
	if err != nil {
		panic(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (t *exampleTB) finish() {
	for i := len(t.cleanup) - 1; i >= 0; i-- {
		t.cleanup[i]()
	}
}
