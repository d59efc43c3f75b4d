package eventlog

// Seeded mistakes, for the tests that show that the suite notices them.

func WithoutLookAhead(o Options) Options { o.bugs.noLookAhead = true; return o }
func WithoutFloor(o Options) Options     { o.bugs.noFloor = true; return o }
func TrustingExtent(o Options) Options   { o.bugs.trustExtent = true; return o }
func WithoutSeed(o Options) Options      { o.bugs.noSeed = true; return o }
func WithoutRewrite(o Options) Options   { o.bugs.noRewrite = true; return o }
func WithoutExtent(o Options) Options    { o.bugs.noExtent = true; return o }
