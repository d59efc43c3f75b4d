package api

import (
	"path"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// PlanOf returns the specified tree in its wire form. The paths of its places leave out the id of
// the root, except for the root's own path.
func PlanOf(root plan.Place) *apiv1.Child {
	c := placeOfPlan(root, root.ID)
	for _, child := range root.Children {
		c.Children = append(c.Children, planBelow(child, child.ID))
	}
	return c
}

func planBelow(p plan.Place, at string) *apiv1.Child {
	c := placeOfPlan(p, at)
	for _, child := range p.Children {
		c.Children = append(c.Children, planBelow(child, path.Join(at, child.ID)))
	}
	return c
}

func placeOfPlan(p plan.Place, at string) *apiv1.Child {
	c := &apiv1.Child{
		Path: at, Id: p.ID, Type: apiv1.ChildType_CHILD_TYPE_WORKER,
		Spec: &apiv1.ChildSpec{Restart: restarts[p.Restart], Significant: p.Significant, Note: p.Note},
	}

	if p.Supervises() {
		c.Type = apiv1.ChildType_CHILD_TYPE_SUPERVISOR
		c.Spec.Strategy = strategies[p.Strategy]
		c.Spec.MaxRestarts, c.Spec.Period = uint32(p.Intensity.Max), durationpb.New(p.Intensity.Period)
		c.Spec.AutoShutdown = p.AutoShutdown.String()
	}
	if p.Dynamic {
		c.Spec.Strategy = apiv1.Strategy_STRATEGY_DYNAMIC
	}

	return c
}
