package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"time"
)

// Source returns a price in cents for the report with that number, which most sources ignore. If it
// returns an error, it is asked again until the round has ended.
type Source func(ctx context.Context, number uint64) (cents int64, err error)

// Synthetic returns a source that needs no network: a price that swings around 64,000.00 once in
// ten minutes. Two calls never see quite the same price, as with real sources.
func Synthetic(now func() time.Time) Source {
	const middle, swing, noise, period = 64_000_00, 900_00, 25_00, 10 * time.Minute
	return func(context.Context, uint64) (int64, error) {
		turns := float64(now().UnixNano()%int64(period)) / float64(period)
		return middle + int64(swing*math.Sin(2*math.Pi*turns)) + rand.Int64N(2*noise) - noise, nil
	}
}

const (
	sourceTime  = 5 * time.Second // for one answer of an HTTP source
	sourceBytes = 64 << 10        // of an answer, at most
)

// HTTP returns a source that gets url, whose answer is JSON such as {"cents": 6412345}. Other
// members are ignored.
func HTTP(url string) Source {
	return func(ctx context.Context, _ uint64) (int64, error) {
		ctx, cancel := context.WithTimeout(ctx, sourceTime)
		defer cancel()

		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, fmt.Errorf("source: %w", err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, fmt.Errorf("source: %w", err)
		}
		defer resp.Body.Close()

		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("source %s: status %s, want 200", url, resp.Status)
		}

		var answer struct {
			Cents int64 `json:"cents"`
		}
		if err := json.NewDecoder(io.LimitReader(resp.Body, sourceBytes)).Decode(&answer); err != nil {
			return 0, fmt.Errorf(`source %s: want {"cents": N}: %w`, url, err)
		}
		if answer.Cents <= 0 {
			return 0, fmt.Errorf("source %s: cents is missing or %d, want more than 0", url, answer.Cents)
		}

		return answer.Cents, nil
	}
}
