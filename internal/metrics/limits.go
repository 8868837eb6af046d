package metrics

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// limitMemory is how long the use of a limit is shown after it was last counted.
	limitMemory = 24 * time.Hour
	// maxLimitAccounts bounds the accounts that are remembered for a rule. Those
	// that use the least of their limit are forgotten first.
	maxLimitAccounts = 1000
)

// limits is a gauge by rule of how much of its limit the account uses that uses the
// most. Accounts are in memory only and in no label. It is safe for concurrent use.
type limits struct {
	desc *prometheus.Desc
	now  func() time.Time
	// label returns the labels of a rule.
	label func(Rule) Rule

	mu   sync.Mutex
	used map[Rule]map[limitAccount]limitUse
}

type limitAccount struct{ target, account string }

type limitUse struct {
	ratio float64
	at    time.Time
}

func newLimits(name, help string, label func(Rule) Rule) *limits {
	return &limits{
		desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, []string{"policy", "rule"}, nil),
		now:  time.Now, label: label, used: make(map[Rule]map[limitAccount]limitUse),
	}
}

// set keeps what an account uses of the limit of a rule.
func (l *limits) set(rule Rule, account limitAccount, ratio float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used[rule] == nil {
		if l.label(rule) == otherRules() {
			rule = otherRules()
		}
		if l.used[rule] == nil {
			l.used[rule] = make(map[limitAccount]limitUse)
		}
	}
	accounts := l.used[rule]
	accounts[account] = limitUse{ratio, l.now()}
	if len(accounts) > maxLimitAccounts {
		l.forget(accounts)
	}
}

// forget drops what is old and, of the rest, the half that uses the least.
func (l *limits) forget(accounts map[limitAccount]limitUse) {
	var ratios []float64
	for account, use := range accounts {
		if l.now().Sub(use.at) >= limitMemory {
			delete(accounts, account)
			continue
		}
		ratios = append(ratios, use.ratio)
	}
	slices.Sort(ratios)
	drop := len(ratios) - maxLimitAccounts/2
	if drop <= 0 {
		return
	}
	most := ratios[drop-1]
	for account, use := range accounts {
		if drop > 0 && use.ratio <= most {
			delete(accounts, account)
			drop--
		}
	}
}

// keep forgets the rules that are gone.
func (l *limits) keep(rules []Rule) {
	there := make(map[Rule]bool, len(rules))
	for _, r := range rules[:min(len(rules), maxRules)] {
		there[r] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.used {
		if !there[r] {
			delete(l.used, r)
		}
	}
}

// Describe implements prometheus.Collector.
func (l *limits) Describe(ch chan<- *prometheus.Desc) { ch <- l.desc }

// Collect implements prometheus.Collector.
func (l *limits) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rule, accounts := range l.used {
		highest, known := 0.0, false
		for account, use := range accounts {
			if l.now().Sub(use.at) >= limitMemory {
				delete(accounts, account)
				continue
			}
			highest, known = max(highest, use.ratio), true
		}
		if known {
			ch <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, highest, rule[0], rule[1])
		}
	}
}
