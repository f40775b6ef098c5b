// What every page loads: the elements, and the live updates.

import "./line-chart.js";
import "./evidence-chart.js";
import "./explore.js";
import "./filter-box.js";
import "./live.js";
