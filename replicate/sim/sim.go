// Package sim plays a year without the author: a world of hosts that come, go,
// vanish, lie and fall out with each other, against what ships and against what others do. It is the
// room in which a plan and a rule of repair have to win before they ship.
//
// What ships is called, not copied: replicate.Fleet places, Presence estimates uptime and
// patience from what was seen, every member of every roster decides for itself by Decide, liars are judged by
// Trial. What a member knows is worked out from when it and another could see each other (see eyes); a test
// holds that to what Sight.Call makes of every single call.
//
// A run depends on nothing but scenario, seed and contender: not on the clock, the machine, the
// number of processors or the order of the hosts. All contenders of a seed meet the same downtimes and losses.
//
// It is driven by events, site by site: a host decides about a site at its next look (Times.Call apart, each
// in its own rhythm) after something that it could see has changed, or when Decision.At says. Sites don't
// meet: standbys have reserved their room, and lines are never full.
//
// Left out: transfers that compete or break off half-way, new releases, names (a site counts as served where a copy is),
// several observers of a host's habits (one, who is always up, looks once an hour and tells everybody; who sees whom now is
// everybody's own), the few sites an hour that a host gives at most, audits that honest hosts miss, and policies that end. An
// audit is made at the first look that two members are both up, and each 12 h from then; what was asked
// in between doesn't put it off. Bytes are of whole sites: a host that comes back has all that it had, one that vanishes nothing.
package sim
