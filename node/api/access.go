package api

import (
	"strings"

	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Access is what a token allows. Each level includes the levels below it.
type Access uint8

const (
	// ReadAccess allows everything that changes nothing: status, reads, the tree, events, metrics.
	ReadAccess Access = iota + 1

	// SubmitAccess also allows transactions, and reads that are ordered like transactions.
	SubmitAccess

	// AdminAccess also allows kills, snapshots, backups, and everything else that changes the node.
	AdminAccess
)

// Levels lists all levels of access, the lowest first.
var Levels = []Access{ReadAccess, SubmitAccess, AdminAccess}

// String returns the name of the level: read-only, submit or admin.
func (a Access) String() string {
	switch a {
	case ReadAccess:
		return "read-only"
	case SubmitAccess:
		return "submit"
	default:
		return "admin"
	}
}

// File returns the name of the file of a home that holds the token of this level.
func (a Access) File() string {
	switch a {
	case ReadAccess:
		return ReadTokenFileName
	case SubmitAccess:
		return SubmitTokenFileName
	default:
		return TokenFileName
	}
}

// procedures says what the calls of the API need. A call that is not in the table needs
// AdminAccess, and a test fails until it has a row.
var procedures = map[string]Access{
	apiv1connect.NodeServiceSubmitProcedure: SubmitAccess,
	apiv1connect.NodeServiceGetTxProcedure:  ReadAccess,
	apiv1connect.NodeServiceGetProcedure:    ReadAccess, // see mayOrder
	apiv1connect.NodeServiceStatusProcedure: ReadAccess,
	apiv1connect.NodeServiceFollowProcedure: ReadAccess,
	apiv1connect.NodeServiceBlocksProcedure: ReadAccess,
	apiv1connect.NodeServiceBlockProcedure:  ReadAccess,
	apiv1connect.NodeServicePoolProcedure:   ReadAccess,
	apiv1connect.NodeServicePeersProcedure:  ReadAccess,

	apiv1connect.AdminServiceTreeProcedure:       ReadAccess,
	apiv1connect.AdminServiceSpecProcedure:       ReadAccess,
	apiv1connect.AdminServiceHealthProcedure:     ReadAccess,
	apiv1connect.AdminServiceHostStatusProcedure: ReadAccess,
	apiv1connect.AdminServiceEventsProcedure:     ReadAccess,
	apiv1connect.AdminServiceKillProcedure:       AdminAccess,
	apiv1connect.AdminServiceStopProcedure:       AdminAccess,
	apiv1connect.AdminServiceInspectProcedure:    AdminAccess,

	apiv1connect.AdminServiceInspectChildProcedure: ReadAccess, // stacks and state: see InspectChild
	apiv1connect.AdminServiceHistoryProcedure:      ReadAccess,
	apiv1connect.AdminServiceOrphansProcedure:      ReadAccess,
	apiv1connect.AdminServiceEnginesProcedure:      ReadAccess,
	apiv1connect.AdminServiceTroublesProcedure:     ReadAccess,
	apiv1connect.AdminServiceTreeDeltaProcedure:    ReadAccess,
	apiv1connect.AdminServiceSetLogLevelProcedure:  AdminAccess,

	apiv1connect.PeerServiceStandingProcedure:     ReadAccess,
	apiv1connect.PeerServiceCertificatesProcedure: ReadAccess,
	apiv1connect.PeerServiceFirstGenesisProcedure: ReadAccess,
	apiv1connect.PeerServiceAtResetProcedure:      ReadAccess,
	apiv1connect.PeerServiceResetChunkProcedure:   ReadAccess,
	apiv1connect.PeerServiceLightBlockProcedure:   ReadAccess,

	apiv1connect.StreamsServiceListStreamsProcedure:   SubmitAccess,
	apiv1connect.StreamsServiceWaitStreamProcedure:    SubmitAccess,
	apiv1connect.StreamsServicePreviewStreamProcedure: SubmitAccess,
	apiv1connect.StreamsServiceVerifyStreamProcedure:  SubmitAccess,
	apiv1connect.StreamsServiceAddStreamProcedure:     AdminAccess,
	apiv1connect.StreamsServiceActOnStreamProcedure:   AdminAccess,
	apiv1connect.StreamsServiceEditStreamProcedure:    AdminAccess,
	apiv1connect.StreamsServiceExportStreamProcedure:  AdminAccess,
	apiv1connect.StreamsServiceReplayStreamProcedure:  AdminAccess,
	apiv1connect.StreamsServiceListParkedProcedure:    AdminAccess,

	apiv1connect.SnapshotServiceCreateSnapshotProcedure: AdminAccess,
	apiv1connect.SnapshotServiceListSnapshotsProcedure:  AdminAccess,
	apiv1connect.SnapshotServiceRetentionProcedure:      AdminAccess,
	apiv1connect.SnapshotServiceOfferSnapshotProcedure:  AdminAccess,
	apiv1connect.SnapshotServiceAdoptSnapshotProcedure:  AdminAccess,
	apiv1connect.SnapshotServiceBackupProcedure:         AdminAccess,
}

// need returns what a request to path needs. Paths outside of the API show things, such as
// /metrics, and change nothing.
func need(path string) Access {
	if !strings.HasPrefix(path, servicePrefix) {
		return ReadAccess
	}
	if a, ok := procedures[path]; ok {
		return a
	}
	return AdminAccess
}
