package top

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/coppice-go/coppice/client"
)

// Live runs the program with the streams and polls that it has in a terminal, until the test ends.
// It returns what the screen, a large one, shows now.
func Live(t *testing.T, c *client.Client) (screen func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	v := viewed{screen: new(atomic.Value)}
	v.screen.Store("")
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, Options{Client: c, Interval: time.Second}, stylesFor(io.Discard), func(m *Model) tea.Model {
			m.Update(tea.WindowSizeMsg{Width: 400, Height: 60})
			v.Model = m
			return v
		}, tea.WithInput(nil), tea.WithOutput(io.Discard))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("coppice top: %v", err)
		}
	})
	return func() string { return v.screen.Load().(string) }
}

// viewed is the program, and keeps its screen.
type viewed struct {
	*Model
	screen *atomic.Value
}

func (v viewed) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	next, do := v.Model.Update(msg)
	v.Model = next.(*Model)
	return v, do
}

func (v viewed) View() string {
	text := v.Model.View()
	v.screen.Store(text)
	return text
}
