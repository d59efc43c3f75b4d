package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Limits of AdminService.
const (
	maxAdminBody        = 64 << 10
	maxPath             = 4 << 10
	defaultReleaseAfter = 2 * time.Second
	maxReleaseAfter     = 10 * time.Minute
)

// AdminHandler returns the handler of AdminService over h, and the path prefix to mount it at.
// Kill, Stop and Inspect require the admin token.
func AdminHandler(h Host, tokens Tokens, opts ...connect.HandlerOption) (string, http.Handler) {
	return apiv1connect.NewAdminServiceHandler(&adminService{host: h, tokens: tokens},
		append(opts, knownEnums(), connect.WithReadMaxBytes(maxAdminBody))...)
}

type adminService struct {
	host   Host
	tokens Tokens

	watches atomic.Int64
	orphans orphanLook
}

func (s *adminService) Tree(context.Context,
	*connect.Request[apiv1.TreeRequest]) (*connect.Response[apiv1.TreeResponse], error) {
	return connect.NewResponse(s.host.Tree()), nil
}

func (s *adminService) Spec(context.Context,
	*connect.Request[apiv1.SpecRequest]) (*connect.Response[apiv1.SpecResponse], error) {
	return connect.NewResponse(s.host.Spec()), nil
}

func (s *adminService) Kill(ctx context.Context,
	req *connect.Request[apiv1.KillRequest]) (*connect.Response[apiv1.KillResponse], error) {
	if err := s.tokens.authorize(req.Header(), AdminAccess); err != nil {
		return nil, err
	}
	k, err := killOf(req.Msg)
	if err != nil {
		return nil, err
	}
	killed, err := s.host.Kill(ctx, k)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.KillResponse{Path: killed.Path, Incarnation: killed.Incarnation, How: k.How,
		Type: killed.Type}), nil
}

func (s *adminService) Stop(_ context.Context,
	req *connect.Request[apiv1.StopRequest]) (*connect.Response[apiv1.StopResponse], error) {
	if err := s.tokens.authorize(req.Header(), AdminAccess); err != nil {
		return nil, err
	}
	s.host.Stop()
	return connect.NewResponse(&apiv1.StopResponse{Pid: int64(s.host.Status().PID)}), nil
}

func (s *adminService) Inspect(ctx context.Context,
	req *connect.Request[apiv1.InspectRequest]) (*connect.Response[apiv1.InspectResponse], error) {
	if err := s.tokens.authorize(req.Header(), AdminAccess); err != nil {
		return nil, err
	}

	answer := &apiv1.InspectResponse{Parts: s.host.Inspections()}
	if req.Msg.Part == "" {
		return connect.NewResponse(answer), nil
	}

	var err error
	if answer.Data, answer.LeftOut, err = s.host.Inspect(ctx, req.Msg.Part); err != nil {
		return nil, wireError(ctx, err)
	}

	return connect.NewResponse(answer), nil
}

// killOf checks a request and returns the Kill that it asks for.
func killOf(m *apiv1.KillRequest) (Kill, error) {
	k := Kill{Path: strings.TrimSuffix(m.Path, "/"), How: m.How, ReleaseAfter: defaultReleaseAfter}
	switch {
	case k.Path == "":
		return k, invalid("path", "is empty, want a path of the tree such as coppice/node/router")
	case len(k.Path) > maxPath:
		return k, invalid("path", "%d bytes, want at most %d", len(k.Path), maxPath)
	case slices.Contains(strings.Split(k.Path, "/"), ""):
		return k, invalid("path", "%q has an empty element, want ids joined by single slashes", k.Path)
	}

	if _, known := apiv1.How_name[int32(k.How)]; !known || k.How == apiv1.How_HOW_UNSPECIFIED {
		return k, invalid("how", "%d is none of HOW_ERROR, HOW_PANIC, HOW_GOEXIT, HOW_HANG, HOW_STOP", k.How)
	}

	if m.ReleaseAfter != nil {
		if k.How != apiv1.How_HOW_HANG {
			return k, invalid("release_after", "is for HOW_HANG only")
		}
		if err := m.ReleaseAfter.CheckValid(); err != nil {
			return k, invalid("release_after", "%w", err)
		}
		k.ReleaseAfter = m.ReleaseAfter.AsDuration()
	}

	if k.ReleaseAfter <= 0 || k.ReleaseAfter > maxReleaseAfter {
		return k, invalid("release_after", "%v, want more than 0 and at most %v", k.ReleaseAfter, maxReleaseAfter)
	}

	return k, nil
}

func (s *adminService) Health(context.Context,
	*connect.Request[apiv1.HealthRequest]) (*connect.Response[apiv1.HealthResponse], error) {
	c := s.host.Health()
	return connect.NewResponse(&apiv1.HealthResponse{Ready: c.Able(), Reason: c.Reason, Readiness: ReadinessOf(c)}), nil
}

func (s *adminService) HostStatus(context.Context,
	*connect.Request[apiv1.HostStatusRequest]) (*connect.Response[apiv1.HostStatusResponse], error) {
	st := s.host.Status()
	return connect.NewResponse(&apiv1.HostStatusResponse{
		Up: st.Up, Reason: st.Reason, Pid: int64(st.PID), Version: st.Version, Profile: st.Profile,
		Started: timestamp(st.Started), Home: st.Home,
	}), nil
}
