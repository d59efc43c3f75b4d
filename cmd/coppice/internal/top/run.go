package top

import (
	"context"
	"errors"
	"os"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/coppice-go/coppice/client"
)

// Options are what a view is told.
type Options struct {
	Client   *client.Client
	Interval time.Duration // between two looks at the node
	View     string        // the first view, one of Views
	ReadOnly bool          // there are no actions
	Token    bool          // the client has a token
	Mouse    bool

	// Rounds returns the state of the node's service of rounds for people, or an error if it has
	// none.
	Rounds func(context.Context) (string, error)
}

// mayAct reports whether an action is possible at all. The node has the last word.
func (o Options) mayAct() bool { return !o.ReadOnly && o.Token }

// frames is how often a second the terminal is written to at most. Bubble Tea wakes up so often,
// also when nothing has changed.
const frames = 10

// Run shows the node on the terminal until the user quits or ctx ends. In and out must be
// terminals.
func Run(ctx context.Context, o Options, in, out *os.File) error {
	options := []tea.ProgramOption{tea.WithInput(in), tea.WithOutput(out), tea.WithAltScreen()}
	if o.Mouse {
		options = append(options, tea.WithMouseCellMotion())
	}
	return run(ctx, o, stylesFor(out), func(m *Model) tea.Model { return m }, options...)
}

// run shows the node until ctx ends, or the program does. The program is what wrap makes of the
// view.
func run(ctx context.Context, o Options, s styles, wrap func(*Model) tea.Model, options ...tea.ProgramOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var program *tea.Program
	f := &feed{ctx: ctx, node: o.Client, send: func(msg tea.Msg) { program.Send(msg) }}
	m := newModel(o, asker{ctx: ctx, node: o.Client, feed: f, more: o.Rounds}, s, time.Now)
	program = tea.NewProgram(wrap(m), append(options, tea.WithContext(ctx), tea.WithFPS(frames),
		tea.WithoutSignalHandler())...)

	f.pause(false)
	_, err := program.Run()
	cancel()
	f.end()

	if errors.Is(err, tea.ErrProgramKilled) || errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}
