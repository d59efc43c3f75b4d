package dashboard

import (
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/eyes"
)

// root is the tree of a node, which is made after the routes of its listener.
type root struct{ looker api.Looker }

var _ eyes.Root = root{}

func (r root) Tree() supervisor.Tree                      { return r.looker.Supervisor().Tree() }
func (r root) Place(path string) (supervisor.Tree, error) { return r.looker.Supervisor().Place(path) }
func (r root) Group(path string) ([]string, error)        { return r.looker.Supervisor().Group(path) }
func (r root) Watch() (*supervisor.Watch, error)          { return r.looker.Supervisor().Watch() }
func (r root) Events() []supervisor.Event                 { return r.looker.Supervisor().Events() }
func (r root) Orphans() []supervisor.Orphan               { return r.looker.Supervisor().Orphans() }
func (r root) Kill(path string, reason error) error       { return r.looker.Supervisor().Kill(path, reason) }
