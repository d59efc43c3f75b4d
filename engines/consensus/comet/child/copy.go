package child

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	dbm "github.com/cometbft/cometbft-db"
	cfg "github.com/cometbft/cometbft/config"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/syndtr/goleveldb/leveldb"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// copier answers a request on our own socket with a copy of CometBFT's databases, as they are at
// the moment of the request.
type copier struct {
	log cmtlog.Logger

	mu   sync.Mutex
	open map[string]*leveldb.DB
}

// provide returns next as a cfg.DBProvider whose databases c copies.
func (c *copier) provide(next cfg.DBProvider) cfg.DBProvider {
	return func(ctx *cfg.DBContext) (dbm.DB, error) {
		db, err := next(ctx)
		if level, ok := db.(*dbm.GoLevelDB); ok && err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.open == nil {
				c.open = make(map[string]*leveldb.DB)
			}
			c.open[ctx.ID] = level.DB()
		}
		return db, err
	}
}

// ServeHTTP implements http.Handler. An answer that is cut short lacks the end of its last
// database.
func (c *copier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	f, err := comethome.Freeze(r.Context(), c.open)
	c.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Release()

	// The caller reads as fast as a backup can be written, which may take hours.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
		http.Error(w, fmt.Sprintf("the deadline of the answer: %v", err), http.StatusInternalServerError)
		return
	}

	if err := f.WriteStream(r.Context(), w); err != nil && r.Context().Err() == nil {
		c.log.Error("A copy of the databases for a backup was cut short", "err", err)
		panic(http.ErrAbortHandler) // the caller sees the answer break off
	}
}
