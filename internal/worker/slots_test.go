package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// all takes every slot that target can have.
func all(s *TargetSlots, target string) (releases []func()) {
	for {
		release, _ := s.Acquire(target)
		if release == nil {
			return releases
		}
		releases = append(releases, release)
	}
}

func TestASlowTargetLeavesRoomForTheOthers(t *testing.T) {
	t.Parallel()
	s := NewTargetSlots(64, 4, time.Now)
	if slow := len(all(s, "slow")); slow < 24 || slow > 32 {
		t.Errorf("one target alone gets %d of 64 slots, want about half", slow)
	}
	if n := len(all(s, "a")); n < 24 {
		t.Errorf("another gets %d slots next to a slow target, want as many", n)
	}
	for _, target := range []string{"b", "c"} {
		if n := len(all(s, target)); n < 3 {
			t.Errorf("%s gets %d slots next to two slow targets, want some of its own", target, n)
		}
	}
	if n := len(all(NewTargetSlots(64, 1, time.Now), "only")); n != 60 {
		t.Errorf("an only target gets %d of 64 slots, want all but the few that must stay free", n)
	}
	if more := len(all(s, "slow")); more != 0 {
		t.Errorf("the slow target gets %d more than its share", more)
	}
}

func TestSharesComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewTargetSlots(16, 2, time.Now)
		want := len(all(NewTargetSlots(16, 2, time.Now), "a"))
		for range 1000 {
			releases := append(all(s, "a"), all(s, "b")...)
			<-time.After(2 * fastBelow)
			for _, release := range releases {
				release()
			}
		}
		if n := len(all(s, "a")); n != want {
			t.Errorf("after 1000 rounds one target gets %d slots, want %d", n, want)
		}
	})
}

// TestAFastTargetGetsAllThatIsShared: it leaves the others what is reserved for them, and
// gets no more than half again as soon as it is fast no more.
func TestAFastTargetGetsAllThatIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewTargetSlots(64, 4, time.Now)
		s.Open()
		releases := all(s, "fast")
		half := len(releases)
		var waiters sync.WaitGroup
		served := make(chan func(), 64)
		for range 64 - half {
			waiters.Go(func() {
				if release, _ := s.Wait(t.Context(), "fast"); release != nil {
					served <- release
				}
			})
		}
		synctest.Wait()
		<-time.After(fastBelow / 2)
		releases[0]()
		synctest.Wait()
		if n := half - 1 + len(served); n < 45 {
			t.Errorf("a fast target alone gets %d of 64 slots", n)
		}
		if n := len(all(s, "other")); n != s.reserved {
			t.Errorf("another gets %d slots next to it, want the %d that are reserved", n, s.reserved)
		}
		<-time.After(10 * slowAfter)
		s.Close()
		waiters.Wait()
		close(served)
		for release := range served {
			release()
		}
		for _, release := range releases[1:] {
			release()
		}
		if n := len(all(s, "fast")); n != half {
			t.Errorf("after it was slow, it gets %d of 64 slots, want %d", n, half)
		}
	})
}

// TestWhoIsSentAwayComesInTurn: a crowd that finds no slot comes again one after
// the other, as fast as the slots become free and no faster.
func TestWhoIsSentAwayComesInTurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		inHand  time.Duration
		longest time.Duration
	}{
		{"a target that is well", 2 * time.Second, maxBusyWait},
		{"a slow one", 20 * time.Second, maxBusyWaitSlow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := NewTargetSlots(16, 1, time.Now)
				var n int
				for range 50 {
					releases := all(s, "a")
					n = len(releases)
					<-time.After(tt.inHand)
					for _, release := range releases {
						release()
					}
				}
				all(s, "a")
				var last time.Duration
				const rounds = 1.2
				for i := range int(rounds * float64(n)) {
					_, wait := s.Acquire("a")
					if wait < last {
						t.Fatalf("number %d comes after %s, before the one before it at %s", i, wait, last)
					}
					last = wait
				}
				if want := time.Duration(rounds * float64(tt.inHand)); last < want*8/10 || last > want*12/10 {
					t.Errorf("%.1f rounds of %d that take %s each are over after %s, want about %s", rounds, n, tt.inHand, last, want)
				}
				longest := time.Duration(0)
				for range 10_000 {
					_, wait := s.Acquire("a")
					longest = max(longest, wait)
				}
				if longest < tt.longest || longest > tt.longest*5/4 {
					t.Errorf("sent away for %s at most, want %s and up to a quarter", longest, tt.longest)
				}
			})
		})
	}
}

// TestABusyTargetGivesBack: without a slot nothing is asked of anybody.
func TestABusyTargetGivesBack(t *testing.T) {
	t.Parallel()
	cloud := newFakeCloud(approval.Pending)
	b := newBench(t, cloud, always(approval.Accept))
	b.Slots = NewTargetSlots(2, 1, time.Now)
	all(b.Slots, "payments")
	err := b.Handle(t.Context(), new(connection("1")))
	later, ok := errors.AsType[*RetryLaterError](err)
	if !ok || later.Cause != CauseBusy || later.After < minBusyWait || cloud.asked != 0 {
		t.Errorf("Handle = %v after %d questions, want busy without a question", err, cloud.asked)
	}
}

// TestCallersWithoutASlotWait: first come, first served; or they are told to retry.
func TestCallersWithoutASlotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewTargetSlots(2, 1, time.Now)
		s.Open()
		var mu sync.Mutex
		var order []int
		add := func(i int) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, i)
		}
		ask := func(i int) {
			go func() {
				release, retry := s.Wait(t.Context(), "a")
				if release == nil {
					if retry <= 0 {
						t.Errorf("number %d is not told when to retry", i)
					}
					add(-i)
					return
				}
				add(i)
				<-time.After(time.Second)
				release()
			}()
			synctest.Wait()
		}
		for i := range 3 {
			ask(i)
		}
		if n := s.Waiting(); n != 2 {
			t.Errorf("%d wait, want 2", n)
		}
		<-time.After(5 * time.Second)
		ask(3)
		ask(4)
		s.Refuse()
		synctest.Wait()
		ask(5)
		<-time.After(5 * time.Second)
		synctest.Wait()
		mu.Lock()
		if want := []int{0, 1, 2, 3, -4, -5}; !slices.Equal(order, want) {
			t.Errorf("served in the order %v, want %v", order, want)
		}
		mu.Unlock()
		<-time.After(retryFor)
		ask(6)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() {
			release, retry := s.Wait(ctx, "a")
			ended <- release == nil && retry == 0
		}()
		synctest.Wait()
		cancel()
		if !<-ended || s.Waiting() != 0 {
			t.Errorf("a caller whose context ended got something; %d wait", s.Waiting())
		}
		<-time.After(5 * time.Second)
		if got := len(all(s, "a")); got != 1 {
			t.Errorf("%d slots are free in the end, want the one", got)
		}
	})
}
