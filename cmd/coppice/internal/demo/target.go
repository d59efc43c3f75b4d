package demo

import (
	"context"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// sigkill is SIGKILL to the whole process. It is not a way of the API, because no supervisor takes
// part.
const sigkill apiv1.How = -1

// target is a kill to make.
type target struct {
	path string
	how  apiv1.How
}

// targets returns the kills for the tree, which it reads under load so that there are workers.
func (d *demo) targets(ctx context.Context) ([]target, error) {
	if err := d.rig.Grow(ctx, between); err != nil {
		return nil, err
	}
	t, err := d.rig.Client.Tree(ctx)
	if err != nil {
		return nil, err
	}
	return d.targetsOf(t), nil
}

// targetsOf returns every kill that the tree allows, and then the kills of the whole process. It
// leaves out the kills of any child of a dynamic supervisor that has no children.
func (d *demo) targetsOf(t *apiv1.TreeResponse) []target {
	var out []target
	turn := 0
	rig.EachKill(t.Root, func(c *apiv1.Child, path string, ways ...apiv1.How) {
		if path != c.Path && c.Live.GetInstances() == 0 && !isWorkers(c) {
			return
		}
		if d.Quick {
			ways = ways[turn%len(ways):][:1]
			turn++
		}

		for _, how := range ways {
			out = append(out, target{path, how})
		}
	})

	if d.Shuffle {
		d.rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}

	out = append(out, target{rig.Root, apiv1.How_HOW_STOP})
	for range d.SIGKILLs {
		out = append(out, target{"(the process)", sigkill})
	}

	return out
}

// isWorkers reports whether c is the supervisor of workers, which come and go with the load. There
// may have been none when the tree was read.
func isWorkers(c *apiv1.Child) bool { return c.Id == "workers" }
