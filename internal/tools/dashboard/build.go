package main

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const (
	overviewUID   = "vpcep-approver-overview"
	operationsUID = "vpcep-approver-operations"
	policiesUID   = "vpcep-approver-policies"

	runbook = "https://github.com/vpcep-approver/vpcep-approver/blob/main/docs/runbook.md"
	// traces is a query of all traces of the worker, in the data source of
	// deploy/grafana/provisioning.
	traces = `/explore?schemaVersion=1&panes={"t":{"datasource":"vpcep-approver-traces","queries":[{"refId":"A","queryType":"traceql","query":"{resource.service.name=\"vpcep-approver\"}"}],"range":{"from":"now-1h","to":"now"}}}`
)

// kind is how a panel shows its data.
type kind int

const (
	lines kind = iota // time series
	stack             // stacked time series
	value             // the last value
	bars              // the last values as bars
	cells             // a table of the last values
	state             // states over time
)

// query is a PromQL expression. In it, $all stands for the matchers of the namespace and the
// instances, and $target for these and the target.
type query struct{ expr, legend string }

type panel struct {
	title, unit, about string
	kind               kind
	width              uint32
	queries            []query
	warn, alarm        float64           // thresholds; 0: none
	alert              string            // whose section of the runbook it links to
	names              map[string]string // of states, by value
	exemplars          bool
}

type row struct {
	title  string
	panels []panel
}

type board struct {
	uid, title, about string
	rows              []row
}

func matchers(expr string) string {
	const all = `namespace=~"$namespace", instance=~"$instance"`
	return strings.NewReplacer("$all", all, "$target", all+`, target=~"$target"`).Replace(expr)
}

// quantile is a quantile of a histogram by labels, which may be "". Prometheus stores the classic form, the native
// one, or both.
func quantile(q, histogram, by string) string {
	le := "le"
	if by != "" {
		le += ", " + by
	}
	return "histogram_quantile(" + q + ", sum by (" + le + ") (rate(vpcep_approver_" + histogram + "_bucket{$all}[$__rate_interval])))" +
		" or histogram_quantile(" + q + ", sum by (" + by + ") (rate(vpcep_approver_" + histogram + "{$all}[$__rate_interval])))"
}

// mean is the mean of a histogram by labels.
func mean(histogram, by string) string {
	sum := func(suffix string) string {
		return "sum by (" + by + ") (rate(vpcep_approver_" + histogram + suffix + "{$all}[$__rate_interval]))"
	}
	return sum("_sum") + " / " + sum("_count") + " or histogram_sum(" + sum("") + ") / histogram_count(" + sum("") + ")"
}

func source() common.DataSourceRef {
	return common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
}

// classic is the kind of dashboard that the provisioning of every Grafana takes.
type classic = dashboard.Dashboard //nolint:staticcheck // the newer kind needs a current server

func (b board) build() (classic, error) {
	d := dashboard.NewDashboardBuilder(b.title).Uid(b.uid).Description(b.about).Tags([]string{"vpcep-approver"}). //nolint:staticcheck // see classic
															Timezone("browser").Readonly().Tooltip(dashboard.DashboardCursorSyncCrosshair).Time("now-6h", "now").Refresh("30s").
															WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
	for _, v := range []struct{ name, label, metric string }{
		{"namespace", "Namespace", "vpcep_approver_build_info"},
		{"target", "Target", `vpcep_approver_requests_finished_total{namespace=~"$namespace"}`},
		{"instance", "Instance", `vpcep_approver_build_info{namespace=~"$namespace"}`},
	} {
		text := "label_values(" + v.metric + ", " + v.name + ")"
		d.WithVariable(dashboard.NewQueryVariableBuilder(v.name).Label(v.label).Datasource(source()).
			Query(dashboard.StringOrMap{String: &text}).Definition(text).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
			Sort(dashboard.VariableSortAlphabeticalAsc).Multi(true).IncludeAll(true).AllValue(".*").
			Current(dashboard.VariableOption{
				Text: dashboard.StringOrArrayOfString{String: new("All")}, Value: dashboard.StringOrArrayOfString{String: new("$__all")},
			}))
	}
	for _, a := range []struct{ name, color, expr, text string }{
		{"Policies loaded", "blue", `vpcep_approver_policy_reload_success_timestamp_seconds{$all, set="live"} * 1000`, "policies loaded on {{instance}}"},
		{"Worker started", "orange", `process_start_time_seconds{$all} * 1000 and on (instance, job) vpcep_approver_build_info{$all}`, "{{instance}} started"},
	} {
		d.Annotation(dashboard.NewAnnotationQueryBuilder().Name(a.name).Datasource(source()).Enable(true).IconColor(a.color).
			Expr(matchers(a.expr)).UseValueForTime(true).TitleFormat(a.name).TextFormat(a.text).Step("60s"))
	}
	for _, l := range []struct{ title, url, icon string }{
		{"Overview", "/d/" + overviewUID, "dashboard"},
		{"Operations", "/d/" + operationsUID, "dashboard"},
		{"Policies", "/d/" + policiesUID, "dashboard"},
		{"Traces", traces, "external link"},
		{"Runbook", runbook, "doc"},
	} {
		if l.url == "/d/"+b.uid {
			continue
		}
		ours := strings.HasPrefix(l.url, "/d/")
		d.Link(dashboard.NewDashboardLinkBuilder(l.title).Type(dashboard.DashboardLinkTypeLink).Icon(l.icon).Url(l.url).
			IncludeVars(ours).KeepTime(ours).TargetBlank(!ours).Tooltip(l.title))
	}
	id := uint32(0)
	for _, r := range b.rows {
		d.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			id++
			d.WithPanel(p.build(id))
		}
	}
	built, err := d.Build()
	for i := range built.Links {
		built.Links[i].Placement = nil // the builder knows the menu only
	}
	for i := range built.Annotations.List {
		built.Annotations.List[i].Placement = nil
	}
	ids := id
	for i := range built.Panels {
		if r := built.Panels[i].RowPanel; r != nil {
			ids++
			r.Id = ids
		}
	}
	return built, err
}

func (p panel) build(id uint32) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case value:
		b := stat.NewPanelBuilder().ReduceOptions(lastValue()).GraphMode(common.BigValueGraphModeArea).ColorMode(common.BigValueColorModeValue).Orientation(common.VizOrientationAuto)
		return finish(b, p, id, 5)
	case bars:
		b := bargauge.NewPanelBuilder().ReduceOptions(lastValue()).Orientation(common.VizOrientationHorizontal).
			DisplayMode(common.BarGaugeDisplayModeGradient).Min(0)
		return finish(b, p, id, 8)
	case cells:
		b := table.NewPanelBuilder().CellHeight(common.TableCellHeightSm).
			Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{"sum"})).
			WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{"excludeByName": map[string]bool{"Time": true}}})
		return finish(b, p, id, 8)
	case state:
		b := statetimeline.NewPanelBuilder().ShowValue(common.VisibilityModeNever).MergeValues(true).
			Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom)).
			Mappings(p.mappings())
		return finish(b, p, id, 8)
	case lines, stack:
	}
	b := timeseries.NewPanelBuilder().LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).AxisSoftMin(0).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.kind == stack {
		b.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A"))
	}
	return finish(b, p, id, 8)
}

func lastValue() *common.ReduceDataOptionsBuilder {
	return common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})
}

// anyPanel is what the builders of all kinds of panels have in common.
type anyPanel[B any] interface {
	cog.Builder[dashboard.Panel]
	Id(id uint32) B
	Title(title string) B
	Description(text string) B
	Datasource(ref common.DataSourceRef) B
	Unit(unit string) B
	Span(w uint32) B
	Height(h uint32) B
	WithTarget(target cog.Builder[variants.Dataquery]) B
	Thresholds(t cog.Builder[dashboard.ThresholdsConfig]) B
	Links(links []cog.Builder[dashboard.DashboardLink]) B
}

func finish[B anyPanel[B]](b B, p panel, id, height uint32) B {
	b.Id(id).Title(p.title).Description(p.about).Datasource(source()).Unit(p.unit).Span(p.width).Height(height).Thresholds(p.thresholds())
	for i, q := range p.queries {
		t := prometheus.NewDataqueryBuilder().Datasource(source()).Expr(matchers(q.expr)).LegendFormat(q.legend).RefId(string(rune('A' + i)))
		switch p.kind {
		case cells:
			t.Instant().Format(prometheus.PromQueryFormatTable)
		case value, bars:
			t.Instant()
		case lines, stack, state:
			t.Range()
		}
		if p.exemplars {
			t.Exemplar(true)
		}
		b.WithTarget(t)
	}
	if p.alert != "" {
		b.Links([]cog.Builder[dashboard.DashboardLink]{
			dashboard.NewDashboardLinkBuilder("Runbook").Type(dashboard.DashboardLinkTypeLink).Url(runbook + "#" + strings.ToLower(p.alert)).TargetBlank(true),
		})
	}
	return b
}

// thresholds are green, then orange from warn and red from alarm.
func (p panel) thresholds() *dashboard.ThresholdsConfigBuilder {
	steps := []dashboard.Threshold{{Color: "green"}}
	if p.warn != 0 {
		steps = append(steps, dashboard.Threshold{Value: &p.warn, Color: "orange"})
	}
	if p.alarm != 0 {
		steps = append(steps, dashboard.Threshold{Value: &p.alarm, Color: "red"})
	}
	if p.alarm != 0 && p.warn > p.alarm { // low is bad
		steps = []dashboard.Threshold{{Color: "red"}, {Value: &p.alarm, Color: "orange"}, {Value: &p.warn, Color: "green"}}
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

// mappings names the values of states; 0 is always good.
func (p panel) mappings() []dashboard.ValueMapping {
	options := map[string]dashboard.ValueMappingResult{}
	for v, name := range p.names {
		color := "red"
		if name[0] == '+' {
			name, color = name[1:], "green"
		}
		options[v] = dashboard.ValueMappingResult{Text: &name, Color: &color}
	}
	return []dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: "value", Options: options}}}
}
